"""Defines the types that all parts of the simulator share: requests, replies, refusals and wire formats."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

SIMULATOR_HEADER = {"x-msr-simulator": "1"}
"""Header of every response, so that no client mistakes the simulator for a vendor."""


class RejectedError(Exception):
    """The request is refused before any work, as the vendor would refuse it.

    Attributes:
        status: HTTP status, 400 or above.
        kind: error type as the vendor names it, such as ``invalid_request_error``.
        message: sentence for the client.
        param: offending parameter as the vendor names it; None where the vendor names none.
        code: OpenAI's machine-readable code; None on the Anthropic wire, which has no codes.
        retry_after: seconds of the header ``retry-after``; None leaves the header out.
    """

    def __init__(
        self,
        status: int,
        kind: str,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.message = message
        self.param = param
        self.code = code
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class Picture:
    """An image as it arrived in a request.

    Attributes:
        data: encoded bytes, with a sound header; the pixels may be broken.
        media_type: ``image/jpeg``, ``image/png``, ``image/gif`` or ``image/webp``.
        width: width in pixels.
        height: height in pixels.
        tokens: input tokens that the vendor bills for it.
    """

    data: bytes
    media_type: str
    width: int
    height: int
    tokens: int


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """One request for an answer, in the same shape for both vendors.

    Attributes:
        model: name that the client asked for.
        instructions: text of the system's messages, joined by line feeds.
        texts: text parts of the user's messages, in order.
        pictures: images of all messages, in order.
        text_tokens: input tokens of all messages without the pictures.
        schema: JSON schema that the answer must satisfy; None for free text.
        max_tokens: cap on the output tokens; None for no cap.
        stream: whether the client wants server-sent events.
        include_usage: whether a stream ends with its usage.
        strategy: strategy that the request's metadata names, for the ``paper`` profile; None without it.
    """

    model: str
    instructions: str
    texts: tuple[str, ...]
    pictures: tuple[Picture, ...]
    text_tokens: int
    schema: Mapping[str, Any] | None
    max_tokens: int | None
    stream: bool
    include_usage: bool
    strategy: str | None

    @property
    def image_tokens(self) -> int:
        """Input tokens of all pictures."""
        return sum(picture.tokens for picture in self.pictures)

    @property
    def input_tokens(self) -> int:
        """Input tokens of texts and pictures."""
        return self.text_tokens + self.image_tokens


@dataclass(frozen=True, slots=True)
class Reply:
    """One finished answer, before any of it is sent.

    Attributes:
        request_id: id that the response carries, ``req_`` and 32 hexadecimal digits.
        created: time of its creation in seconds since the epoch.
        request: request that it answers.
        tokens: pieces of text, one per output token; joined they are the text.
        cut: whether the cap on output tokens ended it.
        refused: whether the model declines to answer; the text is empty then.
        cached_tokens: input tokens billed as read from the prompt cache.
        batched: whether the request came in a batch.
    """

    request_id: str
    created: int
    request: ChatRequest
    tokens: tuple[str, ...]
    cut: bool
    refused: bool = False
    cached_tokens: int = 0
    batched: bool = False

    @property
    def text(self) -> str:
        """The whole answer."""
        return "".join(self.tokens)

    @property
    def model(self) -> str:
        """Name of the model in the response: marked, since it is never the model that was asked for."""
        return f"simulator/{self.request.model}"


@dataclass(frozen=True, slots=True)
class RateLimitStatus:
    """What is left of the limits per minute, as the rate limit headers report it.

    Attributes:
        request_limit: requests per minute.
        requests_left: requests left in this minute.
        token_limit: tokens per minute, input and output together.
        tokens_left: tokens left in this minute.
        now: time of the report in seconds since the epoch.
        resets_at: time at which the next minute begins, in seconds since the epoch.
    """

    request_limit: int
    requests_left: int
    token_limit: int
    tokens_left: int
    now: float
    resets_at: float


class RequestReader(Protocol):
    """Reads the requests of one vendor."""

    def read(self, headers: Mapping[str, str], body: bytes | bytearray) -> ChatRequest:
        """Checks the headers of a request and parses its body.

        Raises:
            RejectedError: the vendor would refuse it.
        """
        ...

    def check_headers(self, headers: Mapping[str, str]) -> None:
        """Checks the headers that every call needs: a key, of which any value is accepted, perhaps a version.

        Raises:
            RejectedError: a header is missing.
        """
        ...

    def parse(self, fields: dict[str, Any]) -> ChatRequest:
        """Parses the body of a request, or one request of a batch.

        Raises:
            RejectedError: the vendor would refuse it.
        """
        ...


class ReplyFormat(Protocol):
    """Shapes the replies of one vendor."""

    def headers(self, request_id: str, seconds: float, rate_limits: RateLimitStatus) -> dict[str, str]:
        """Makes the response headers; ``seconds`` have passed since the request arrived."""
        ...

    def message(self, reply: Reply) -> dict[str, Any]:
        """Makes the JSON body of a plain answer."""
        ...

    def opening(self, reply: Reply) -> bytes:
        """Makes the server-sent events before the first token."""
        ...

    def piece(self, reply: Reply, token: str) -> bytes:
        """Makes the server-sent event of one token."""
        ...

    def closing(self, reply: Reply) -> bytes:
        """Makes the server-sent events after the last token."""
        ...


class ErrorFormat(Protocol):
    """Shapes the errors of one vendor."""

    def rejection(self, error: RejectedError, request_id: str) -> dict[str, Any]:
        """Makes the JSON body of a refusal."""
        ...

    def fault(self, status: str, retry_after: float | None) -> RejectedError:
        """Makes the refusal for a status as a scripted fault names it, such as ``529``."""
        ...

    def no_schema(self) -> RejectedError:
        """Makes the refusal of a server without structured output, which names the field of the schema."""
        ...

    def event(self) -> bytes:
        """Makes the server-sent event of an error in the middle of a stream that began with 200."""
        ...


Content = dict[str, Any]
"""The JSON of a server-sent event, or of a whole reply."""

Rewrite = Callable[[Content], Iterator[Content]]
"""Function that maps one event, or a whole reply, to what a server that only resembles the vendor sends."""


@dataclass(frozen=True, slots=True)
class Wire:
    """One vendor's wire format.

    Attributes:
        name: vendor, ``openai`` or ``anthropic``.
        path: URL path of a call that is not in a batch.
        requests: reader of requests.
        replies: format of answers.
        errors: format of refusals and failures.
        lookalikes: rewrites of answers by the name of the fault that asks for them.
    """

    name: str
    path: str
    requests: RequestReader
    replies: ReplyFormat
    errors: ErrorFormat
    lookalikes: Mapping[str, Rewrite]
