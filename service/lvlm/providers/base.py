"""What the LVLM stage asks of a provider: one call in, a stream of events out."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Literal, Protocol

ImageDetail = Literal["low", "high"]
"""How closely a model is asked to look at a picture; OpenAI bills by it."""


@dataclass(frozen=True, slots=True)
class Text:
    """A piece of the user message in words."""

    text: str


@dataclass(frozen=True, slots=True)
class Image:
    """A piece of the user message in pixels: an encoded JPEG or PNG."""

    data: bytes
    media_type: Literal["image/jpeg", "image/png"]
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Prompt:
    """Everything the LVLM reads.

    Attributes:
        system: instructions; never holds catalogue text.
        parts: the user message, in order; static text first, data last.
        answer_schema: JSON schema of the answer, for providers that enforce one; None for free text.
        version: changes with the wording or layout; part of every cache key.
        answer_tokens: about how many the answer will take, for budgets and estimates.
        without_images: makes the same prompt for a server that takes no pictures; None where there is none.
    """

    system: str
    parts: tuple[Text | Image, ...]
    answer_schema: Mapping[str, Any] | None
    version: str
    answer_tokens: int = 0
    without_images: Callable[[], Prompt] | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Call:
    """One request to one model.

    Attributes:
        model: the provider's name for it.
        max_output_tokens: a cap; reaching it is reported as ``FinishReason.LENGTH``.
        stream: whether to ask for server-sent events; without, the answer comes as one ``TextDelta``.
        context: closed-set facts for logs and for the simulator's ``paper`` profile (``strategy``), sent as
            request metadata, never part of the prompt.
        complete: whether a text answers the prompt to the end, so that a stream which ends without a finish
            reason can be told from one that was cut; None where no text can show it.
    """

    prompt: Prompt
    model: str
    max_output_tokens: int
    stream: bool = True
    context: Mapping[str, str] = field(default_factory=dict)
    complete: Callable[[str], bool] | None = field(default=None, compare=False, repr=False)

    @property
    def blind(self) -> Call:
        """The call as it is made to a server that takes no pictures."""
        prompt = self.prompt
        if prompt.without_images is None:
            parts = tuple(part for part in prompt.parts if isinstance(part, Text))
            return replace(self, prompt=replace(prompt, parts=parts))
        return replace(self, prompt=prompt.without_images())


@dataclass(frozen=True, slots=True)
class Source:
    """Who answers: the first event of an answer, before any of its text.

    Attributes:
        model: the model that the provider says answers.
        simulated: the answer comes from the simulator, whatever the provider is called.
        blind: the pictures were left out, since the server takes none.
    """

    model: str
    simulated: bool = False
    blind: bool = False


@dataclass(frozen=True, slots=True)
class TextDelta:
    """The next piece of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as the provider billed them.

    ``input_tokens`` is the whole input, cached or not (OpenAI's convention; the Anthropic adapter adds its
    separate cache counts). A later Usage of the same call replaces an earlier one.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cached_input_tokens: int = 0
    cache_write_tokens: int = 0
    image_tokens: int = 0


class FinishReason(StrEnum):
    """Why a complete answer ended."""

    STOP = "stop"
    LENGTH = "length"
    REFUSAL = "refusal"


_REASONS = {
    **dict.fromkeys(
        ("length", "max_tokens", "max_output_tokens", "model_length", "model_context_window_exceeded"),
        FinishReason.LENGTH,
    ),
    **dict.fromkeys(
        ("content_filter", "refusal", "safety", "recitation", "blocklist", "prohibited_content", "spii"),
        FinishReason.REFUSAL,
    ),
}
_UNSAID = ("", "null", "none", "abort", "aborted", "cancelled", "canceled", "incomplete", "unknown")


def finish_reason(told: str) -> FinishReason | None:
    """What a server's word for the end of an answer means; None for one that does not say it is whole."""
    word = told.strip().lower()
    return None if word in _UNSAID else _REASONS.get(word, FinishReason.STOP)


@dataclass(frozen=True, slots=True)
class Finish:
    """The last event of an answer that the provider says is over.

    An answer without one was cut, unless its text alone shows that it is complete (``Call.complete``).

    Attributes:
        model: the model that the provider says answered.
        simulated: the answer came from the simulator, whatever the provider is called.
    """

    reason: FinishReason
    model: str
    simulated: bool = False


@dataclass(frozen=True, slots=True)
class Alive:
    """The provider is there and has nothing to show of the answer.

    Attributes:
        thinking: it works on the answer (a thought, a part without text); a mere sign of life is no progress.
    """

    thinking: bool = False


Event = Source | TextDelta | Usage | Finish | Alive


class FailureKind(StrEnum):
    """Why a call failed; decides whether another attempt makes sense.

    ``unreachable`` never got there; ``connection`` broke off on the way, perhaps after the work was done;
    ``timeout`` is the vendor's own word, ``silent`` is ours for a stream from which nothing comes any more.
    ``oversized`` sent more than any answer takes: trying again would pay for the same once more.
    """

    RATE_LIMITED = "rate_limited"
    OVERLOADED = "overloaded"
    SERVER = "server"
    UNREACHABLE = "unreachable"
    CONNECTION = "connection"
    TIMEOUT = "timeout"
    SILENT = "silent"
    TRUNCATED = "truncated"
    OVERSIZED = "oversized"
    AUTHENTICATION = "authentication"
    REQUEST = "request"

    @property
    def retryable(self) -> bool:
        """Whether the same call may succeed a moment later."""
        return self not in (FailureKind.AUTHENTICATION, FailureKind.REQUEST, FailureKind.OVERSIZED)


class ProviderError(Exception):
    """A call failed at the provider.

    Attributes:
        kind: the class of failure.
        retry_after: seconds that the provider asked to wait; None if it did not say.
    """

    def __init__(self, kind: FailureKind, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.kind = kind
        self.retry_after = retry_after


class Provider(Protocol):
    """One vendor's wire format at one base URL."""

    @property
    def name(self) -> str:
        """The configured name, used in answers and metric labels."""
        ...

    def stream(self, call: Call) -> AsyncIterator[Event]:
        """Make one attempt, with no retry and no timeout of its own (the gateway has both).

        Yields a Source before any text, text as it arrives, usage when known and a Finish at the end; none if
        the provider gave no finish reason. Closing the iterator cancels the call and frees the connection.

        Raises:
            ProviderError: the attempt failed, also in the middle of a stream.
        """
        ...

    async def close(self) -> None:
        """Free the connections."""
        ...
