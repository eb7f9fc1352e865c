"""Makes one attempt at a call through a vendor's SDK: the base of the adapters for OpenAI and Anthropic.

In: a ``Call``. Out: events, or a ProviderError for whatever the server, the network or the SDK does. The SDKs
are used for addresses, headers and connections alone; requests are encoded and answers are read here, since
their models of every field cost time and memory. Retries and timeouts are the gateway's.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager
from typing import Any, Protocol

import httpx2
import orjson

from service.lvlm.providers.base import (
    SIMULATOR,
    Alive,
    Call,
    Event,
    FailureKind,
    Finish,
    ProviderError,
    Source,
    TextDelta,
)
from service.lvlm.providers.wire.complete_text import FINISH_WAIT, CompletenessCheck
from service.lvlm.providers.wire.dialect import Dialect
from service.lvlm.providers.wire.failures import error_names, failure
from service.lvlm.providers.wire.refused_fields import ADAPTATIONS, STATUSES, adapted, changed_field
from service.lvlm.providers.wire.response_body import Body
from service.lvlm.providers.wire.size_limits import Bounds, oversized
from service.lvlm.providers.wire.transport import http_client

log = logging.getLogger(__name__)

_SIMULATOR_HEADER = "x-msr-simulator"
"""Response header by which the simulator names itself before any of its answer."""

_NOT_FOUND = 404
_KEEP_ALIVE = (Alive(),)


class AnswerReader(Protocol):
    """Reads one answer in one vendor's format; the only error that it raises is ProviderError."""

    @property
    def model(self) -> str:
        """The model that the provider says answers; until it does, the model that was asked."""
        ...

    @property
    def simulated(self) -> bool:
        """Whether the answer says that it is the simulator's."""
        ...

    @property
    def wait_for_rest(self) -> float | None:
        """Seconds for which the rest of the body is waited for once the answer is complete; None before."""
        ...

    def take(self, value: object, *, plain: bool) -> Sequence[Event]:
        """Reads the next decoded value of a stream, or a whole answer that was not streamed.

        Args:
            value: decoded JSON of any type.
            plain: whether the value is the whole answer.

        Returns:
            The events that it stands for; at least one.

        Raises:
            ProviderError: the value is the provider's error, or a plain value is no answer.
        """
        ...

    def finish(self) -> Finish | None:
        """Returns how the answer ended; None if the provider did not say."""
        ...


def client_options(base_url: str, api_key: str, dialect: Dialect) -> dict[str, Any]:
    """Returns the options that the clients of both vendors' SDKs share.

    Args:
        base_url: normalised base URL of the server.
        api_key: API key; empty for a server without keys.
        dialect: headers, query parameters and key header of the server.
    """
    return {
        "default_headers": dict(dialect.headers),
        "default_query": dict(dialect.query),
        # The gateway has retries and timeouts; the SDK's own would add to them unseen.
        "max_retries": 0,
        "timeout": None,
        "http_client": http_client(base_url, key_header=dialect.api_key_header, api_key=api_key),
    }


class SdkProvider(ABC):
    """A provider that speaks a vendor's wire format through the vendor's SDK.

    Both SDKs come from one generator (Stainless), so that their clients and errors have the same names. A
    subclass adds the format: requests, and a reader of answers.

    Args:
        name: configured name of the provider.
        sdk: the vendor's module.
        client: the SDK's client, without retries and timeouts of its own.
        path: path of calls, appended to the base URL.
        dialect: fields that the server accepts, as far as the settings say.

    Attributes:
        client: the SDK's client.
    """

    def __init__(self, name: str, sdk: Any, client: Any, path: str, dialect: Dialect) -> None:
        self._name = name
        self._sdk = sdk
        self._path = path
        self._dialect = dialect
        self._learned: dict[str, Dialect] = {}  # model -> dialect that the server accepted for it
        self._ineffective: set[tuple[str, str]] = set()  # models and adaptations that did not help
        self._stream_type = sdk.AsyncStream[object]
        self.client = client

    @property
    def name(self) -> str:
        """See Provider."""
        return self._name

    async def close(self) -> None:
        """See Provider."""
        await self.client.close()

    async def stream(self, call: Call) -> AsyncIterator[Event]:
        """See Provider."""
        with self.failures():
            async with self._opened(call) as (response, dialect):
                reader, bounds, characters = self.reader(call.model), Bounds.of(call), 0
                assert isinstance(response.stream, httpx2.AsyncByteStream)
                body = Body(response.stream, bounds)  # bounded and inflated: see bounded_network
                simulated = _SIMULATOR_HEADER in response.headers
                known = call.model, simulated
                check = CompletenessCheck(call)
                # Before any text, so that an attempt that is cut at once says who it was sent to.
                yield Source(*known, dialect.blind)
                async with aclosing(body.records()) as records:
                    async for value in records:
                        events = _KEEP_ALIVE if value is None else reader.take(value, plain=body.plain)
                        if known != (reader.model, simulated or reader.simulated):
                            known = reader.model, simulated or reader.simulated
                            yield Source(*known, dialect.blind)
                        for event in events:
                            if type(event) is TextDelta:
                                characters += len(event.text)
                                if characters > bounds.text:
                                    raise oversized("an answer")
                                body.lift_limit()
                                if check.add(event.text):
                                    body.limit_wait(FINISH_WAIT)
                            yield event
                        if reader.wait_for_rest is not None:
                            body.limit_wait(reader.wait_for_rest)
                if finish := reader.finish():
                    yield finish
                elif not (characters or body.events):
                    raise ProviderError(FailureKind.SERVER, "the provider sent something that is not JSON")

    @abstractmethod
    def request(self, call: Call, dialect: Dialect | None = None) -> dict[str, Any]:
        """Returns the body of a request in the vendor's format, without the fields that ask for a stream.

        Args:
            call: call to make; without pictures if the dialect accepts none.
            dialect: fields that the server accepts; None for what is known for the call's model.
        """

    @abstractmethod
    def reader(self, model: str) -> AnswerReader:
        """Returns a reader for one answer of a model."""

    @abstractmethod
    def _stream_fields(self, dialect: Dialect) -> dict[str, Any]:
        """The fields that a request adds to be answered in server-sent events."""

    def events(self, answer: object, model: str) -> list[Event]:
        """Returns the events of an answer that came as a whole, such as a batch's.

        Args:
            answer: decoded JSON of the answer.
            model: model that was asked.

        Raises:
            ProviderError: the JSON is an error, or no answer.
        """
        reader = self.reader(model)
        events = list(reader.take(answer, plain=True))
        finish = reader.finish()
        return [*events, finish] if finish else events

    def dialect(self, model: str) -> Dialect:
        """Returns the fields that the server is known to accept in calls of a model."""
        return self._learned.get(model, self._dialect)

    @contextmanager
    def failures(self) -> Iterator[None]:
        """Turns errors of the SDK and of the HTTP client into ProviderErrors.

        ``from None`` throughout: the SDK's messages quote response bodies, and those quote requests and keys.
        """
        try:
            yield
        except ProviderError:
            raise
        except self._sdk.APIStatusError as error:
            raise failure(error.status_code, error.body, error.response.headers, error.request_id) from None
        except self._sdk.APITimeoutError:
            raise ProviderError(FailureKind.TIMEOUT, "the connection timed out") from None
        except self._sdk.APIConnectionError as error:
            raise _connection(error.__cause__) from None
        except self._sdk.APIError as error:
            raise failure(200, error.body) from None
        except httpx2.HTTPError as error:
            raise _connection(error) from None
        except Exception as error:  # what a malformed answer makes the SDK or a reader raise
            raise ProviderError(
                FailureKind.SERVER, f"the answer is malformed: {type(error).__name__}"
            ) from None

    @asynccontextmanager
    async def _opened(self, call: Call) -> AsyncIterator[tuple[httpx2.Response, Dialect]]:
        """Posts a call, and again without each field that the server refuses by name, until it is accepted.

        Yields:
            The response, whose body is still to be read, and the dialect of the request that it answers.
        """
        dialect, path = self.dialect(call.model), self._path
        tried: set[tuple[str, str]] = set()
        while True:
            try:
                response = await self._post(call, dialect, path)
                break
            except self._sdk.APIStatusError as error:
                next_try = self._next_try(error, call, dialect, path)
                if next_try is None or next_try[0] in self._ineffective | tried:
                    # Only a refusal shows that an adaptation did not help: a 429 or 503 says nothing about
                    # it.
                    if error.status_code in STATUSES:
                        self._ineffective |= tried
                    raise
                adaptation, dialect, path = next_try
                tried.add(adaptation)
        self._remember(call.model, dialect, path)
        try:
            yield response, dialect
        finally:
            await response.aclose()

    def _next_try(
        self, error: Any, call: Call, dialect: Dialect, path: str
    ) -> tuple[tuple[str, str], Dialect, str] | None:
        """The adaptation to try after a refusal, with its dialect and path; None if it names nothing.

        An adaptation is named by model and field; that of the path holds for all models.
        """
        if not path.startswith("/v1/") and self._is_wrong_path(error):
            return ("", "path"), dialect, f"/v1{self._path}"
        following = adapted(dialect, call, error.status_code, error.body)
        if following is None:
            return None
        return (call.model, changed_field(dialect, following)), following, path

    def _is_wrong_path(self, error: Any) -> bool:
        """Whether the base URL lacks its version part, rather than the request being wrong.

        That is assumed for a 404 without an error in the vendor's format, where the base URL has a path but
        no part like ``v1``.
        """
        base = self.client.base_url.path.strip("/")
        unversioned = bool(base) and not any(
            part[:1] == "v" and part[1:2].isdigit() for part in base.split("/")
        )
        return error.status_code == _NOT_FOUND and unversioned and not error_names(error.body)

    def _remember(self, model: str, dialect: Dialect, path: str) -> None:
        """Keeps what the server accepted for the process's later calls, and logs each change once."""
        if path != self._path:
            log.warning("%s answers under /v1: give its base URL with it", self._name)
            self._path = path
        known = self.dialect(model)
        if dialect == known:
            return
        self._learned[model] = dialect
        for name, adaptation in ADAPTATIONS.items():
            if getattr(dialect, name) != getattr(known, name):
                log.warning(
                    "%s/%s refuses a field of our requests: from now on %s (setting: %s)",
                    self._name,
                    model,
                    adaptation,
                    name,
                )

    async def _post(self, call: Call, dialect: Dialect, path: str) -> httpx2.Response:
        """Posts a call and returns its response, whose body is still to be read."""
        sent = call.text_only if dialect.blind else call
        # Encoded here, once: the SDK's own methods keep the request's parts, with pictures in base64, beside
        # the encoded body for as long as the call lasts, which is half of a waiting call's memory.
        body = orjson.dumps(
            {**self.request(sent, dialect), **(self._stream_fields(dialect) if call.stream else {})}
        )
        response: httpx2.Response = await self.client.post(
            path, cast_to=httpx2.Response, content=body, stream=True, stream_cls=self._stream_type
        )
        return response


_NEVER_SENT = (
    httpx2.ConnectError,
    httpx2.ConnectTimeout,
    httpx2.PoolTimeout,
    httpx2.UnsupportedProtocol,
    httpx2.LocalProtocolError,
)
"""Errors of the HTTP client before a byte of the request has reached the provider; they cost nothing."""


def is_simulated(model: object) -> bool:
    """Tells whether the name of a model is one that the simulator answers under."""
    return isinstance(model, str) and model.startswith(f"{SIMULATOR}/")


def _connection(cause: BaseException | None) -> ProviderError:
    """The error for a failed connection; whether the request was sent decides whether it may have cost."""
    if isinstance(cause, httpx2.ProxyError):
        return ProviderError(FailureKind.UNREACHABLE, "the proxy on the way to the provider refuses")
    if isinstance(cause, _NEVER_SENT):
        return ProviderError(FailureKind.UNREACHABLE, "the provider cannot be reached")
    return ProviderError(FailureKind.CONNECTION, "the connection broke off")
