"""What a call will take, and what one that was cut has taken: estimates that learn from the bills.

Token counts of a text depend on a vocabulary that only the vendor has. The estimate by length is corrected by
what the same model, else the same provider, billed for prompts of the same form before.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from service.lvlm.attempt import Attempt
from service.lvlm.pricing import Prices
from service.lvlm.providers.base import Call, Usage
from service.lvlm.tokens import estimate_images, estimate_input, estimate_text

WEIGHT = 0.1
"""Of the newest bill in the running means."""


@dataclass(slots=True)
class _Seen:
    """Running means over finished calls of one kind.

    Attributes:
        input_factor: billed text tokens per estimated one.
        output_factor: billed output tokens per estimated one.
        output_tokens: billed per call.
        seconds: per call.
    """

    input_factor: float
    output_factor: float
    output_tokens: float
    seconds: float

    def take(self, newest: _Seen) -> None:
        for name in self.__slots__:
            old = getattr(self, name)
            setattr(self, name, old + WEIGHT * (getattr(newest, name) - old))


class Expectations:
    """Estimates for calls to any provider; a handful of numbers per model and prompt form."""

    def __init__(self, prices: Prices) -> None:
        self._prices = prices
        self._seen: dict[tuple[str, ...], _Seen] = {}

    def expected(self, provider: str, call: Call) -> Usage:
        """What the call will take before it is made."""
        seen = self._known(provider, call)
        output = seen.output_tokens if seen else call.prompt.answer_tokens
        return replace(self._input(provider, call), output_tokens=min(round(output), call.max_output_tokens))

    def taken(self, attempt: Attempt) -> Usage:
        """What an attempt has taken that told its usage not at all or in part."""
        call, told = attempt.call, attempt.usage or Usage()
        if told.input_tokens:
            known = replace(told, image_tokens=told.image_tokens or self._images(call))
        else:
            known = self._input(attempt.provider, call)
        return replace(known, output_tokens=max(told.output_tokens, self._output(attempt)))

    def complete(self, attempt: Attempt) -> Usage:
        """The usage as it was told; some vendors leave out what part of the input the pictures were."""
        assert attempt.usage is not None
        images = attempt.usage.image_tokens or self._images(attempt.call)
        return replace(attempt.usage, image_tokens=min(images, attempt.usage.input_tokens))

    def learn(self, attempt: Attempt) -> None:
        """Take the bill of a finished attempt into account."""
        call, usage = attempt.call, attempt.usage
        assert usage is not None
        images = usage.image_tokens or self._images(call)
        newest = _Seen(
            input_factor=max(0, usage.input_tokens - images) / max(1, self._text(call)),
            output_factor=usage.output_tokens / max(1, estimate_text(attempt.text)),
            output_tokens=usage.output_tokens,
            seconds=attempt.seconds,
        )
        for key in _keys(attempt.provider, call):
            if key in self._seen:
                self._seen[key].take(newest)
            else:
                self._seen[key] = replace(newest)

    def _input(self, provider: str, call: Call) -> Usage:
        seen, images = self._known(provider, call), self._images(call)
        text = self._text(call) * (seen.input_factor if seen else 1.0)
        return Usage(input_tokens=round(text) + images, image_tokens=images)

    def _output(self, attempt: Attempt) -> int:
        seen = self._known(attempt.provider, attempt.call)
        if not attempt.call.stream and not attempt.text:
            # Nobody sees how far a plain answer has come: as far as the clock allows.
            share = min(1.0, attempt.seconds / seen.seconds) if seen and seen.seconds else 1.0
            return round(share * self.expected(attempt.provider, attempt.call).output_tokens)
        return round(estimate_text(attempt.text) * (seen.output_factor if seen else 1.0))

    def _known(self, provider: str, call: Call) -> _Seen | None:
        return next((self._seen[key] for key in _keys(provider, call) if key in self._seen), None)

    def _text(self, call: Call) -> int:
        return estimate_input(call.prompt, self._prices.images(call.model)) - self._images(call)

    def _images(self, call: Call) -> int:
        return estimate_images(call.prompt, self._prices.images(call.model))


def _keys(provider: str, call: Call) -> tuple[tuple[str, ...], ...]:
    """From the nearest kin to the farthest."""
    version = call.prompt.version
    return (provider, call.model, version), (provider, version)
