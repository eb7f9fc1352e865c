"""Estimates the tokens of calls, before they are made and where their usage is not reported, from past bills.

The tokens of a text depend on a vocabulary that only the vendor has. So the estimate by length (``tokens``)
is multiplied by a factor: what the same model, else the same provider, billed for prompts of the same form,
per estimated token.
"""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import dataclass, replace
from statistics import median

from service.lvlm.cost.prices import Prices
from service.lvlm.cost.tokens import estimate_images, estimate_input, estimate_text
from service.lvlm.provider_attempt import Attempt
from service.lvlm.providers.base import Call, Text, Usage

KEPT_CALLS = 25
"""Latest calls per model and prompt form whose medians are used; older ones are dropped.

Few enough for the medians to follow a change, and enough for a single odd bill not to matter.
"""

_OVERHEAD = 2_000
"""Tokens that a vendor may add to a prompt or an answer: roles, tools, a system message of its own.

A reported count beyond what was sent and this is taken for an error, and replaced by an estimate.
"""

_MAX_PER_PICTURE = 10_000
"""Tokens of one picture beyond which a count is taken for an error; the dearest known rule bills 8,500."""


@dataclass(frozen=True, slots=True)
class _PastCall:
    """Ratios and amounts of a finished call, or their medians over several calls.

    Attributes:
        input_factor: billed text tokens per estimated one.
        output_factor: billed output tokens per estimated one.
        output_tokens: billed output tokens.
        seconds: seconds from the attempt's begin to its end.
    """

    input_factor: float
    output_factor: float
    output_tokens: float
    seconds: float


class UsageEstimator:
    """Estimates the usage of calls to any provider, from past calls of the same model and prompt form.

    Args:
        prices: price table, for the rules of pictures.
    """

    def __init__(self, prices: Prices) -> None:
        self._prices = prices
        self._past_calls: defaultdict[tuple[str, ...], deque[_PastCall]] = defaultdict(
            lambda: deque(maxlen=KEPT_CALLS)
        )

    def expected(self, provider: str, call: Call) -> Usage:
        """Estimates the usage of a call before it is made."""
        past = self._known(provider, call)
        # Before the first bill the prompt's own estimate is used; no answer is longer than the cap.
        output = past.output_tokens if past else call.prompt.answer_tokens
        return replace(self._input(provider, call), output_tokens=min(round(output), call.max_output_tokens))

    def estimated(self, attempt: Attempt) -> Usage:
        """Estimates the usage of an attempt so far, keeping what was plausibly reported of it."""
        call, reported = attempt.sent, self._plausible(attempt)
        if reported.input_tokens:
            known = replace(reported, image_tokens=reported.image_tokens or self._images(call))
        else:
            known = self._input(attempt.provider, call)
        return replace(known, output_tokens=max(reported.output_tokens, self._output(attempt)))

    def reported(self, attempt: Attempt) -> Usage | None:
        """Returns the reported usage of a whole answer; None if it is missing, partial or not plausible.

        Some vendors do not report how many of the input tokens were pictures: that part is estimated.
        """
        reported = self._plausible(attempt)
        if not (
            attempt.billed and reported.input_tokens and (reported.output_tokens or not attempt.answering)
        ):
            return None
        images = reported.image_tokens or self._images(attempt.sent)
        return replace(reported, image_tokens=min(images, reported.input_tokens))

    def _plausible(self, attempt: Attempt) -> Usage:
        """The reported usage, with 0 for counts that cannot be true of this attempt."""
        call, reported = attempt.sent, attempt.usage or Usage()
        # Some servers report absurd counts, and one of them must not use up a budget.
        sent = reported.input_tokens if self._is_plausible_input(call, reported.input_tokens) else 0
        made = reported.output_tokens if _is_plausible_output(attempt, reported.output_tokens) else 0
        cached = reported.cached_input_tokens if reported.cached_input_tokens <= sent else 0
        kept = reported.cache_write_tokens if reported.cache_write_tokens <= sent - cached else 0
        images = reported.image_tokens if reported.image_tokens <= sent else 0
        return Usage(sent, made, cached, kept, images)

    def _is_plausible_input(self, call: Call, tokens: int) -> bool:
        """Whether a call can have so many input tokens: a text has no more tokens than bytes."""
        parts = call.prompt.parts
        texts = [call.prompt.system, *(part.text for part in parts if isinstance(part, Text))]
        if tokens <= _OVERHEAD + sum(map(len, texts)):  # nearly every call: a character has a byte or more
            return True
        written = sum(len(each.encode("utf-8", "replace")) for each in texts)
        schema = len(str(call.prompt.answer_schema or ""))
        # The number of pictures is that of parts less texts; texts holds the system message too, hence the 1.
        pictures = (len(parts) + 1 - len(texts)) * _MAX_PER_PICTURE + 4 * self._images(call)
        return tokens <= _OVERHEAD + written + schema + pictures

    def learn(self, attempt: Attempt, usage: Usage) -> None:
        """Takes the reported usage of a finished attempt into account for later estimates."""
        call = attempt.sent
        images = usage.image_tokens or self._images(call)
        finished = _PastCall(
            input_factor=max(0, usage.input_tokens - images) / max(1, self._text(call)),
            output_factor=usage.output_tokens / max(1, estimate_text(attempt.text)),
            output_tokens=usage.output_tokens,
            seconds=attempt.seconds,
        )
        for key in _keys(attempt.provider, call):
            self._past_calls[key].append(finished)

    def _input(self, provider: str, call: Call) -> Usage:
        past, images = self._known(provider, call), self._images(call)
        text = self._text(call) * (past.input_factor if past else 1.0)
        return Usage(input_tokens=round(text) + images, image_tokens=images)

    def _output(self, attempt: Attempt) -> int:
        past = self._known(attempt.provider, attempt.call)
        if not attempt.call.stream and not attempt.text:
            # Nothing has arrived of an answer that is not streamed: the share of the usual time is taken.
            share = min(1.0, attempt.seconds / past.seconds) if past and past.seconds else 1.0
            return round(share * self.expected(attempt.provider, attempt.call).output_tokens)
        return round(estimate_text(attempt.text) * (past.output_factor if past else 1.0))

    def _known(self, provider: str, call: Call) -> _PastCall | None:
        for key in _keys(provider, call):
            if key in self._past_calls:
                past_calls = self._past_calls[key]
                return _PastCall(
                    *(median(getattr(each, name) for each in past_calls) for name in _PastCall.__slots__)
                )
        return None

    def _text(self, call: Call) -> int:
        return estimate_input(call.prompt, self._prices.images(call.model)) - self._images(call)

    def _images(self, call: Call) -> int:
        return estimate_images(call.prompt, self._prices.images(call.model))


def _is_plausible_output(attempt: Attempt, tokens: int) -> bool:
    """Whether an answer can have so many output tokens; some servers exceed the cap."""
    slack = 1.25  # times the cap, or tokens per byte of the text
    return tokens <= slack * attempt.call.max_output_tokens + _OVERHEAD or tokens <= slack * len(
        attempt.text.encode("utf-8", "replace")
    )


def _keys(provider: str, call: Call) -> tuple[tuple[str, ...], ...]:
    """The keys of similar past calls, the most similar first: same model, else same provider."""
    version = call.prompt.version
    return (provider, call.model, version), (provider, version)
