"""What a call will take, and what one that was cut has taken: estimates that learn from the bills.

Token counts of a text depend on a vocabulary that only the vendor has. The estimate by length is corrected by
what the same model, else the same provider, billed for prompts of the same form before.
"""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import dataclass, replace
from statistics import median

from service.lvlm.attempt import Attempt
from service.lvlm.pricing import Prices
from service.lvlm.providers.base import Call, Text, Usage
from service.lvlm.tokens import estimate_images, estimate_input, estimate_text

REMEMBERED = 25
"""Bills of one kind; medians over so few follow a change, and a freak among them does not count."""


_FRAME = 2_000
"""Tokens that a vendor may add to a prompt or an answer: roles, tools, a system message of its own."""

_MOST_PER_PICTURE = 10_000
"""Tokens; the dearest rule known bills 8,500 for a picture of ours."""


@dataclass(frozen=True, slots=True)
class _Paid:
    """What a finished call took, or the medians over several.

    Attributes:
        input_factor: billed text tokens per estimated one.
        output_factor: billed output tokens per estimated one.
        output_tokens: billed.
        seconds: from the first byte sent to the end.
    """

    input_factor: float
    output_factor: float
    output_tokens: float
    seconds: float


class Expectations:
    """Estimates for calls to any provider; a handful of numbers per model and prompt form."""

    def __init__(self, prices: Prices) -> None:
        self._prices = prices
        self._paid: defaultdict[tuple[str, ...], deque[_Paid]] = defaultdict(lambda: deque(maxlen=REMEMBERED))

    def expected(self, provider: str, call: Call) -> Usage:
        """What the call will take before it is made."""
        seen = self._known(provider, call)
        output = seen.output_tokens if seen else call.prompt.answer_tokens
        return replace(self._input(provider, call), output_tokens=min(round(output), call.max_output_tokens))

    def taken(self, attempt: Attempt) -> Usage:
        """What an attempt has taken that told its usage not at all, in part, or not as it can be."""
        call, told = attempt.sent, self._plausible(attempt)
        if told.input_tokens:
            known = replace(told, image_tokens=told.image_tokens or self._images(call))
        else:
            known = self._input(attempt.provider, call)
        return replace(known, output_tokens=max(told.output_tokens, self._output(attempt)))

    def told(self, attempt: Attempt) -> Usage | None:
        """The usage of a whole answer as it was told; None if it was not, or cannot be.

        Some vendors leave out what part of the input the pictures were.
        """
        told = self._plausible(attempt)
        if not (attempt.billed and told.input_tokens and (told.output_tokens or not attempt.answering)):
            return None
        images = told.image_tokens or self._images(attempt.sent)
        return replace(told, image_tokens=min(images, told.input_tokens))

    def _plausible(self, attempt: Attempt) -> Usage:
        """The usage that was told, with 0 for counts beyond what was sent or could have been generated."""
        call, told = attempt.sent, attempt.usage or Usage()
        sent = told.input_tokens if self._can_be_sent(call, told.input_tokens) else 0
        made = told.output_tokens if _can_be_made(attempt, told.output_tokens) else 0
        cached = told.cached_input_tokens if told.cached_input_tokens <= sent else 0
        kept = told.cache_write_tokens if told.cache_write_tokens <= sent - cached else 0
        images = told.image_tokens if told.image_tokens <= sent else 0
        return Usage(sent, made, cached, kept, images)

    def _can_be_sent(self, call: Call, tokens: int) -> bool:
        """Whether a call can be so many tokens: no vocabulary makes more of a text than it has bytes."""
        parts = call.prompt.parts
        texts = [call.prompt.system, *(part.text for part in parts if isinstance(part, Text))]
        if tokens <= _FRAME + sum(
            map(len, texts)
        ):  # nearly every call: a text has at least a byte a character
            return True
        written = sum(len(each.encode("utf-8", "replace")) for each in texts)
        schema = len(str(call.prompt.answer_schema or ""))
        pictures = (len(parts) + 1 - len(texts)) * _MOST_PER_PICTURE + 4 * self._images(call)
        return tokens <= _FRAME + written + schema + pictures

    def learn(self, attempt: Attempt, usage: Usage) -> None:
        """Take the bill of a finished attempt into account."""
        call = attempt.sent
        images = usage.image_tokens or self._images(call)
        paid = _Paid(
            input_factor=max(0, usage.input_tokens - images) / max(1, self._text(call)),
            output_factor=usage.output_tokens / max(1, estimate_text(attempt.text)),
            output_tokens=usage.output_tokens,
            seconds=attempt.seconds,
        )
        for key in _keys(attempt.provider, call):
            self._paid[key].append(paid)

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

    def _known(self, provider: str, call: Call) -> _Paid | None:
        for key in _keys(provider, call):
            if key in self._paid:
                paid = self._paid[key]
                return _Paid(*(median(getattr(each, name) for each in paid) for name in _Paid.__slots__))
        return None

    def _text(self, call: Call) -> int:
        return estimate_input(call.prompt, self._prices.images(call.model)) - self._images(call)

    def _images(self, call: Call) -> int:
        return estimate_images(call.prompt, self._prices.images(call.model))


def _can_be_made(attempt: Attempt, tokens: int) -> bool:
    """Whether an answer can be so many tokens; some servers do not keep to the cap."""
    slack = 1.25
    return tokens <= slack * attempt.call.max_output_tokens + _FRAME or tokens <= slack * len(
        attempt.text.encode("utf-8", "replace")
    )


def _keys(provider: str, call: Call) -> tuple[tuple[str, ...], ...]:
    """From the nearest kin to the farthest."""
    version = call.prompt.version
    return (provider, call.model, version), (provider, version)
