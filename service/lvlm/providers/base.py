"""Defines what the LVLM stage and a provider exchange: one call goes in, a stream of events comes out."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Literal, Protocol

SIMULATOR = "simulator"
"""Name by which the simulator marks its answers, and under which they are reported."""

ImageDetail = Literal["low", "high"]
"""Resolution at which a model is asked to look at a picture; the price of a picture depends on it."""


@dataclass(frozen=True, slots=True)
class Text:
    """A part of the user message that is text."""

    text: str


@dataclass(frozen=True, slots=True)
class Image:
    """A part of the user message that is a picture.

    Attributes:
        data: encoded JPEG or PNG.
        media_type: media type of the data.
        width: pixels across.
        height: pixels down.
    """

    data: bytes
    media_type: Literal["image/jpeg", "image/png"]
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Prompt:
    """All that the LVLM reads.

    Attributes:
        system: instructions; never catalogue text.
        parts: parts of the user message in order: static text first, data last.
        answer_schema: JSON schema of the answer, for providers that enforce one; None for free text.
        version: name that changes with the wording or layout; part of every cache key.
        answer_tokens: estimated tokens of the answer, for budgets before the first bill is known.
        without_images: function that makes the same prompt for a server that accepts no pictures; None for a
            prompt without pictures, or whose pictures can simply be left out.
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
        prompt: prompt to send.
        model: the provider's name for the model.
        max_output_tokens: tokens of the answer at most; reaching them is reported as ``FinishReason.LENGTH``.
        stream: whether to ask for server-sent events; otherwise the answer comes as one ``TextDelta``.
        context: values from closed sets, such as the ``strategy``, for logs and for the simulator's ``paper``
            profile. Only the simulator is sent them, as metadata; they are never part of the prompt.
        complete: function that tells whether a text is a complete answer, by which a stream that ends without
            a finish reason is reason from one that was cut off; None if no text can show it.
    """

    prompt: Prompt
    model: str
    max_output_tokens: int
    stream: bool = True
    context: Mapping[str, str] = field(default_factory=dict)
    complete: Callable[[str], bool] | None = field(default=None, compare=False, repr=False)

    @property
    def text_only(self) -> Call:
        """The call as it is made to a server that accepts no pictures."""
        prompt = self.prompt
        if prompt.without_images is None:
            parts = tuple(part for part in prompt.parts if isinstance(part, Text))
            return replace(self, prompt=replace(prompt, parts=parts))
        return replace(self, prompt=prompt.without_images())


@dataclass(frozen=True, slots=True)
class Source:
    """The model that answers: the first event of an answer, before any of its text; repeated if it changes.

    Attributes:
        model: model that the provider says answers.
        simulated: whether the simulator answers, whatever the provider is called.
        blind: whether the pictures were left out, since the server accepts none.
    """

    model: str
    simulated: bool = False
    blind: bool = False


@dataclass(frozen=True, slots=True)
class TextDelta:
    """The next piece of the answer's text."""

    text: str


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as the provider billed them. A later Usage of the same attempt replaces an earlier one.

    Attributes:
        input_tokens: tokens of the whole input, cached or not, pictures included. This is OpenAI's
            convention; Anthropic counts cached tokens beside the others, and its adapter adds them up.
        output_tokens: tokens of the answer, hidden thoughts included.
        cached_input_tokens: tokens of the input that the vendor read from its cache.
        cache_write_tokens: tokens of the input that the vendor wrote to its cache.
        image_tokens: tokens of the input that were pictures; 0 where the vendor does not report them.
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


# Finish reasons of OpenAI, Anthropic, Mistral and Gemini. Every other word means STOP.
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
_NOT_AN_END = ("", "null", "none", "abort", "aborted", "cancelled", "canceled", "incomplete", "unknown")


def finish_reason(reason: str) -> FinishReason | None:
    """Maps a server's finish reason; None for a word that does not say that the answer is whole."""
    word = reason.strip().lower()
    return None if word in _NOT_AN_END else _REASONS.get(word, FinishReason.STOP)


@dataclass(frozen=True, slots=True)
class Finish:
    """The last event of an answer that the provider says is over.

    An answer without one was cut off, unless its text alone shows that it is complete (``Call.complete``).

    Attributes:
        reason: why the answer ended.
        model: model that the provider says answered.
        simulated: whether the simulator answered, whatever the provider is called.
    """

    reason: FinishReason
    model: str
    simulated: bool = False


@dataclass(frozen=True, slots=True)
class Alive:
    """A sign that the provider is alive, without any text of the answer.

    Attributes:
        thinking: whether it shows progress, as a hidden thought does; a keep-alive comment does not.
    """

    thinking: bool = False


Event = Source | TextDelta | Usage | Finish | Alive


class FailureKind(StrEnum):
    """Why an attempt failed; decides whether another attempt makes sense, and whether this one may have cost.

    ``unreachable``: no byte of the request reached the provider. ``connection``: the connection broke off,
    perhaps after the work was done. ``timeout``: the vendor reported one. ``silent``: the gateway gave up a
    stream that brought nothing for too long. ``truncated``: the stream ended in the middle of the answer.
    ``oversized``: the answer exceeded ``wire.size_limits``; another attempt would pay for the same again.
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
        """Whether the same call may succeed a moment later, without a change by an operator."""
        return self not in (FailureKind.AUTHENTICATION, FailureKind.REQUEST, FailureKind.OVERSIZED)


class ProviderError(Exception):
    """An attempt failed at the provider. The message is safe to log: it quotes no prompt and no key.

    Attributes:
        kind: kind of failure.
        retry_after: seconds that the provider asked to wait, at least 0; None if it did not say.
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
        """Makes one attempt, with no retry and no timeout of its own (the gateway has both).

        Yields a Source before any text, text as it arrives, usage once it is known, and at the end a Finish
        if the provider gave a finish reason. Closing the iterator cancels the attempt and its connection.

        Raises:
            ProviderError: the attempt failed, also in the middle of a stream.
        """
        ...

    async def close(self) -> None:
        """Closes the connections."""
        ...
