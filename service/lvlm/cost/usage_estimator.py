"""Estimates of the tokens that a call will take, or has taken when it was cut; they learn from the bills.

Token counts of a text depend on a vocabulary that only the vendor has. The estimate by length is corrected by
what the same model, else the same provider, billed for prompts of the same form before.
"""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import dataclass, replace
from statistics import median

from service.lvlm.attempt import Attempt
from service.lvlm.cost.prices import Prices
from service.lvlm.cost.tokens import estimate_images, estimate_input, estimate_text
from service.lvlm.providers.base import Call, Text, Usage

REMEMBERED = 25
"""Latest bills per model and prompt form that are kept: few enough for their medians to follow a change, and
enough for one odd bill not to count."""

_FRAME = 2_000
"""Tokens that a vendor may add to a prompt or an answer: roles, tools, a system message of its own. A count
beyond what was sent and this is not believed."""

_MOST_PER_PICTURE = 10_000
"""Tokens of one picture beyond which a count is not believed; the dearest rule known bills 8,500."""


@dataclass(frozen=True, slots=True)
class _Paid:
    """What a finished call took, or the medians over several.

    Attributes:
        input_factor: billed text tokens per estimated one.
        output_factor: billed output tokens per estimated one.
        output_tokens: billed output tokens.
        seconds: seconds from the first byte sent to the end.
    """

    input_factor: float
    output_factor: float
    output_tokens: float
    seconds: float


class UsageEstimator:
    """Estimates the usage of calls to any provider, from a handful of numbers per model and prompt form."""

    def __init__(self, prices: Prices) -> None:
        self._prices = prices
        self._paid: defaultdict[tuple[str, ...], deque[_Paid]] = defaultdict(lambda: deque(maxlen=REMEMBERED))

    def expected(self, provider: str, call: Call) -> Usage:
        """Estimates what a call will take, before it is made."""
        seen = self._known(provider, call)
        # Before the first bill the prompt's own guess stands in.
        output = seen.output_tokens if seen else call.prompt.answer_tokens
        return replace(self._input(provider, call), output_tokens=min(round(output), call.max_output_tokens))

    def taken(self, attempt: Attempt) -> Usage:
        """Estimates what an attempt has taken whose usage was not reported, or in part, or not plausibly."""
        call, reported = attempt.sent, self._plausible(attempt)
        if reported.input_tokens:
            known = replace(reported, image_tokens=reported.image_tokens or self._images(call))
        else:
            known = self._input(attempt.provider, call)
        return replace(known, output_tokens=max(reported.output_tokens, self._output(attempt)))

    def reported(self, attempt: Attempt) -> Usage | None:
        """Returns the usage of a whole answer as it was reported; None if it was not, or not plausibly.

        Some vendors leave out what part of the input the pictures were: that part is estimated.
        """
        reported = self._plausible(attempt)
        if not (
            attempt.billed and reported.input_tokens and (reported.output_tokens or not attempt.answering)
        ):
            return None
        images = reported.image_tokens or self._images(attempt.sent)
        return replace(reported, image_tokens=min(images, reported.input_tokens))

    def _plausible(self, attempt: Attempt) -> Usage:
        """The usage as reported, with 0 for counts beyond what was sent or could have been generated."""
        call, reported = attempt.sent, attempt.usage or Usage()
        # Some servers report absurd counts, and a budget must not be spent by one of them.
        sent = reported.input_tokens if self._can_be_sent(call, reported.input_tokens) else 0
        made = reported.output_tokens if _can_be_made(attempt, reported.output_tokens) else 0
        cached = reported.cached_input_tokens if reported.cached_input_tokens <= sent else 0
        kept = reported.cache_write_tokens if reported.cache_write_tokens <= sent - cached else 0
        images = reported.image_tokens if reported.image_tokens <= sent else 0
        return Usage(sent, made, cached, kept, images)

    def _can_be_sent(self, call: Call, tokens: int) -> bool:
        """Whether a call can be so many tokens: no vocabulary makes more of a text than it has bytes."""
        parts = call.prompt.parts
        texts = [call.prompt.system, *(part.text for part in parts if isinstance(part, Text))]
        if tokens <= _FRAME + sum(map(len, texts)):  # nearly every call: a character has a byte or more
            return True
        written = sum(len(each.encode("utf-8", "replace")) for each in texts)
        schema = len(str(call.prompt.answer_schema or ""))
        # texts holds the system message too, hence the 1.
        pictures = (len(parts) + 1 - len(texts)) * _MOST_PER_PICTURE + 4 * self._images(call)
        return tokens <= _FRAME + written + schema + pictures

    def learn(self, attempt: Attempt, usage: Usage) -> None:
        """Takes the bill of a finished attempt into account."""
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
            # Of an answer that is not streamed nothing can be seen: its share of the usual time counts.
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
    slack = 1.25  # times the cap, or tokens per byte of the text
    return tokens <= slack * attempt.call.max_output_tokens + _FRAME or tokens <= slack * len(
        attempt.text.encode("utf-8", "replace")
    )


def _keys(provider: str, call: Call) -> tuple[tuple[str, ...], ...]:
    """What to look up, from the nearest kin to the farthest."""
    version = call.prompt.version
    return (provider, call.model, version), (provider, version)
