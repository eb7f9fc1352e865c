"""What the adapters of both vendors' SDKs share: one attempt, in either mode, and errors made ours."""

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
from service.lvlm.providers.wire.complete_text import WHOLE, WholeText
from service.lvlm.providers.wire.dialect import Dialect
from service.lvlm.providers.wire.failures import failure, says_what
from service.lvlm.providers.wire.refused_fields import MEASURES, STATUSES, adapted, difference
from service.lvlm.providers.wire.response_body import Body
from service.lvlm.providers.wire.size_limits import Bounds, oversized

log = logging.getLogger(__name__)

_SIMULATED = "x-msr-simulator"
"""The header by which the simulator says at once that it answers."""

_NOT_FOUND = 404
_SIGN = (Alive(),)


class AnswerReader(Protocol):
    """Reads one answer in one vendor's format.

    Whatever is sent, it raises nothing but ProviderError.
    """

    @property
    def model(self) -> str:
        """The model that the provider says answers; the asked one until it does."""
        ...

    @property
    def simulated(self) -> bool:
        """Whether the answer says that it is the simulator's."""
        ...

    @property
    def lingers(self) -> float | None:
        """Seconds for which more is worth waiting for, now that the answer is complete; None before."""
        ...

    def take(self, told: object, *, plain: bool) -> Sequence[Event]:
        """Read the next record of a stream, or a plain answer as a whole.

        Raises:
            ProviderError: the record tells an error, or a plain answer is none.
        """
        ...

    def finish(self) -> Finish | None:
        """How the answer ended; None if the provider did not say."""
        ...


class SdkProvider(ABC):
    """A vendor's wire format through the vendor's SDK; both SDKs come from one generator.

    Args:
        name: the configured name.
        sdk: the vendor's module.
        client: the SDK's client, without retries and timeouts of its own.
        path: of calls, after the base URL.
        dialect: what the server understands, as far as settings say it.

    Attributes:
        client: the same.
    """

    def __init__(self, name: str, sdk: Any, client: Any, path: str, dialect: Dialect) -> None:
        self._name = name
        self._sdk = sdk
        self._path = path
        self._dialect = dialect
        self._learned: dict[str, Dialect] = {}
        self._useless: set[tuple[str, str]] = set()  # models and measures that did not help
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
                reader, bounds, written = self.reader(call.model), Bounds.of(call), 0
                assert isinstance(response.stream, httpx2.AsyncByteStream)
                body = Body(response.stream, bounds)  # bounded and inflated: see bounded_network
                marked = _SIMULATED in response.headers
                known = call.model, marked
                whole = WholeText(call).grows
                yield Source(*known, dialect.blind)
                async with aclosing(body.records()) as records:
                    async for told in records:
                        events = _SIGN if told is None else reader.take(told, plain=body.plain)
                        if known != (reader.model, marked or reader.simulated):
                            known = reader.model, marked or reader.simulated
                            yield Source(*known, dialect.blind)
                        for event in events:
                            if type(event) is TextDelta:
                                written += len(event.text)
                                if written > bounds.text:
                                    raise oversized("an answer")
                                body.carry_on()
                                if whole(event.text):
                                    body.linger(WHOLE)
                            yield event
                        if reader.lingers is not None:
                            body.linger(reader.lingers)
                if finish := reader.finish():
                    yield finish
                elif not (written or body.events):
                    raise ProviderError(FailureKind.SERVER, "the provider sent something that is not JSON")

    @abstractmethod
    def request(self, call: Call, dialect: Dialect | None = None) -> dict[str, Any]:
        """The body of a request in the vendor's format, without the mode.

        Args:
            call: what to ask; without pictures if the dialect is blind.
            dialect: what the server understands; None for what is known of the call's model.
        """

    @abstractmethod
    def reader(self, model: str) -> AnswerReader:
        """Begin to read an answer of a model."""

    @abstractmethod
    def _mode(self, dialect: Dialect) -> dict[str, Any]:
        """What a request adds to be answered in server-sent events."""

    def events(self, answer: object, model: str) -> list[Event]:
        """What an answer that came at once says.

        Raises:
            ProviderError: it is no answer.
        """
        reader = self.reader(model)
        events = list(reader.take(answer, plain=True))
        finish = reader.finish()
        return [*events, finish] if finish else events

    def dialect(self, model: str) -> Dialect:
        """What the server is known to understand when it is asked for a model."""
        return self._learned.get(model, self._dialect)

    @contextmanager
    def failures(self) -> Iterator[None]:
        """Turn the SDK's errors into ours.

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
        except Exception as error:  # whatever was sent, and whatever the SDK made of it
            raise ProviderError(
                FailureKind.SERVER, f"the answer is malformed: {type(error).__name__}"
            ) from None

    @asynccontextmanager
    async def _opened(self, call: Call) -> AsyncIterator[tuple[httpx2.Response, Dialect]]:
        """Post a call, and again without a field that the server refuses by its name."""
        dialect, path = self.dialect(call.model), self._path
        tried: set[tuple[str, str]] = set()
        while True:
            try:
                response = await self._post(call, dialect, path)
                break
            except self._sdk.APIStatusError as error:
                otherwise = self._otherwise(error, call, dialect, path)
                if otherwise is None or otherwise[0] in self._useless | tried:
                    if error.status_code in STATUSES:  # the request is still refused, and not put off
                        self._useless |= tried
                    raise
                measure, dialect, path = otherwise
                tried.add(measure)
        self._remember(call.model, dialect, path)
        try:
            yield response, dialect
        finally:
            await response.aclose()

    def _otherwise(
        self, error: Any, call: Call, dialect: Dialect, path: str
    ) -> tuple[tuple[str, str], Dialect, str] | None:
        """What to try after a refusal, with a name for it; None for a refusal that names nothing."""
        if not path.startswith("/v1/") and self._bare_not_found(error):
            return ("", "path"), dialect, f"/v1{self._path}"
        following = adapted(dialect, call, error.status_code, error.body)
        if following is None:
            return None
        return (call.model, difference(dialect, following)), following, path

    def _bare_not_found(self, error: Any) -> bool:
        """Whether the address is wrong rather than the request.

        So it is when a 404 says nothing in the vendor's format and the base URL has a path without a version.
        """
        base = self.client.base_url.path.strip("/")
        unversioned = bool(base) and not any(
            part[:1] == "v" and part[1:2].isdigit() for part in base.split("/")
        )
        return error.status_code == _NOT_FOUND and unversioned and not says_what(error.body)

    def _remember(self, model: str, dialect: Dialect, path: str) -> None:
        if path != self._path:
            log.warning("%s answers under /v1: give its base URL with it", self._name)
            self._path = path
        known = self.dialect(model)
        if dialect == known:
            return
        self._learned[model] = dialect
        for name, measure in MEASURES.items():
            if getattr(dialect, name) != getattr(known, name):
                log.warning(
                    "%s/%s refuses a field of our requests: from now on %s (setting: %s)",
                    self._name,
                    model,
                    measure,
                    name,
                )

    # The body is made here, once: the SDK's own methods keep the request's parts, pictures in base64, beside
    # what they make of them for as long as the call lasts, which is half of a waiting call's memory.

    async def _post(self, call: Call, dialect: Dialect, path: str) -> httpx2.Response:
        """Post a call and return its response, whose body is still to be read."""
        sent = call.blind if dialect.blind else call
        body = orjson.dumps({**self.request(sent, dialect), **(self._mode(dialect) if call.stream else {})})
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
"""Failures before a byte of the request has reached the provider: they cost nothing."""


def is_simulated(model: object) -> bool:
    """Whether the simulator says that it answered."""
    return isinstance(model, str) and model.startswith(f"{SIMULATOR}/")


def _connection(cause: BaseException | None) -> ProviderError:
    if isinstance(cause, httpx2.ProxyError):
        return ProviderError(FailureKind.UNREACHABLE, "the proxy on the way to the provider refuses")
    if isinstance(cause, _NEVER_SENT):
        return ProviderError(FailureKind.UNREACHABLE, "the provider cannot be reached")
    return ProviderError(FailureKind.CONNECTION, "the connection broke off")
