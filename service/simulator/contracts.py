"""The vocabulary of the simulator: what a wire format reads, what it writes, and the seam between."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

MARK = {"x-msr-simulator": "1"}
"""The header of every response."""


class RejectedError(Exception):
    """The request is refused before any work, as the vendor would refuse it.

    Attributes:
        status: the HTTP status.
        kind: the vendor's error type, such as ``invalid_request_error``.
        param: the offending parameter as the vendor names it.
        code: OpenAI's machine-readable code; Anthropic has none.
        retry_after: seconds after which to come back; None says nothing.
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
    """An image as it arrived: encoded bytes, pixels wide and high, and what the vendor would bill for it."""

    data: bytes
    media_type: str
    width: int
    height: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Ask:
    """One request, freed from its wire format.

    Attributes:
        instructions: text of the system's messages.
        texts: the text parts of the user's messages, in order.
        text_tokens: tokens of all messages without the pictures.
        schema: JSON schema that the answer must satisfy; None for free text.
        max_tokens: cap on the answer; None for no cap.
        include_usage: whether a stream ends with its usage.
        strategy: the strategy that the request metadata names, for the ``paper`` profile.
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
        """Tokens of all pictures."""
        return sum(picture.tokens for picture in self.pictures)

    @property
    def input_tokens(self) -> int:
        """Tokens of the whole input."""
        return self.text_tokens + self.image_tokens


@dataclass(frozen=True, slots=True)
class Reply:
    """The finished answer, before it is sent: its tokens joined are the text.

    Attributes:
        cut: the cap on output tokens ended it.
        created: seconds since the epoch.
        refused: the model will not answer; the text is empty.
        cached_tokens: of the input that the vendor had read before.
        batched: answers a request of a batch.
    """

    request_id: str
    created: int
    ask: Ask
    tokens: tuple[str, ...]
    cut: bool
    refused: bool = False
    cached_tokens: int = 0
    batched: bool = False

    @property
    def text(self) -> str:
        """The answer in words."""
        return "".join(self.tokens)

    @property
    def model(self) -> str:
        """The model that answers, which is never the one that was asked for."""
        return f"simulator/{self.ask.model}"


@dataclass(frozen=True, slots=True)
class Allowance:
    """What is left of the per-minute limits that the rate limit headers report; a script may enforce them.

    Attributes:
        now: seconds since the epoch.
        resets_at: seconds since the epoch when the window starts anew.
    """

    request_limit: int
    requests_left: int
    token_limit: int
    tokens_left: int
    now: float
    resets_at: float


class RequestReader(Protocol):
    """Reads the requests of one vendor."""

    def read(self, headers: Mapping[str, str], body: bytes | bytearray) -> Ask:
        """Check the headers of a request and parse its body.

        Raises:
            RejectedError: the vendor would refuse it.
        """
        ...

    def check_headers(self, headers: Mapping[str, str]) -> None:
        """Check what every call to the vendor has to bring: a key, though any will do.

        Raises:
            RejectedError: something is missing.
        """
        ...

    def understand(self, asked: dict[str, Any]) -> Ask:
        """Parse the body of a request, or one request of a batch.

        Raises:
            RejectedError: the vendor would refuse it.
        """
        ...


class ReplyFormat(Protocol):
    """Shapes the replies of one vendor."""

    def headers(self, request_id: str, seconds: float, allowance: Allowance) -> dict[str, str]:
        """Response headers; ``seconds`` were spent until they were sent."""
        ...

    def message(self, reply: Reply) -> dict[str, Any]:
        """The body of a plain answer."""
        ...

    def opening(self, reply: Reply) -> bytes:
        """Server-sent events before the first token."""
        ...

    def piece(self, reply: Reply, token: str) -> bytes:
        """The server-sent event of one token."""
        ...

    def closing(self, reply: Reply) -> bytes:
        """Server-sent events after the last token."""
        ...


class ErrorFormat(Protocol):
    """Shapes the errors of one vendor."""

    def rejection(self, error: RejectedError, request_id: str) -> dict[str, Any]:
        """The body of a refusal."""
        ...

    def fault(self, status: str, retry_after: float | None) -> RejectedError:
        """The refusal that the vendor sends for a status, as a scripted fault names it."""
        ...

    def no_schema(self) -> RejectedError:
        """The refusal of a server that knows no JSON schemas: it names the field."""
        ...

    def event(self) -> bytes:
        """The server-sent event of an error in the middle of a stream that began with 200."""
        ...


Content = dict[str, Any]
"""The JSON of a server-sent event, or of a whole reply."""

Rewrite = Callable[[Content], Iterator[Content]]
"""Maps one event, or a whole reply, to what a lookalike server sends in its place."""


@dataclass(frozen=True, slots=True)
class Wire:
    """One vendor's wire format.

    Attributes:
        name: the vendor, ``openai`` or ``anthropic``.
        path: the path of a call of its own.
        lookalikes: rewrites by the name of the fault that asks for them.
    """

    name: str
    path: str
    requests: RequestReader
    replies: ReplyFormat
    errors: ErrorFormat
    lookalikes: Mapping[str, Rewrite]
