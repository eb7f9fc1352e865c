"""What the adapters of both vendors' SDKs share: one attempt, in either mode, and errors made ours."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import aclosing, contextmanager
from typing import Any

import httpx2
import orjson

from service.lvlm.providers.base import Call, Event, FailureKind, ProviderError
from service.lvlm.providers.failures import failure

SIMULATOR = "simulator"


class SdkProvider(ABC):
    """A vendor's wire format through the vendor's SDK; both SDKs come from one generator.

    Args:
        name: the configured name.
        sdk: the vendor's module.
        client: the SDK's client, without retries and timeouts of its own.

    Attributes:
        client: the same.
    """

    def __init__(self, name: str, sdk: Any, client: Any) -> None:
        self._name = name
        self._sdk = sdk
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
            if call.stream:
                async with aclosing(self._streamed(call)) as events:  # closing this closes that, at once
                    async for event in events:
                        yield event
            else:
                for event in self.events(await self._plain(call)):
                    yield event

    @abstractmethod
    def request(self, call: Call) -> dict[str, Any]:
        """The body of a request in the vendor's format, without the mode."""

    @abstractmethod
    def events(self, answer: Any) -> list[Event]:
        """What an answer that came at once says.

        Raises:
            ProviderError: it is no answer.
        """

    @abstractmethod
    def _streamed(self, call: Call) -> AsyncGenerator[Event]:
        """Make a call whose answer comes in server-sent events."""

    @abstractmethod
    async def _plain(self, call: Call) -> Any:
        """Make a call whose answer comes at once."""

    # The body is made here, once: the SDK's own methods keep the request's parts, pictures in base64, beside
    # what they make of them for as long as the call lasts, which is half of a waiting call's memory.

    async def _stream(self, path: str, call: Call, mode: Mapping[str, Any]) -> Any:
        """Post a call and return the SDK's stream, whose ``response`` is to be read."""
        return await self.client.post(
            path, cast_to=object, content=self._body(call, mode), stream=True, stream_cls=self._stream_type
        )

    async def _send(self, path: str, call: Call, answer_type: type) -> Any:
        """Post a call and return its answer."""
        return await self.client.post(path, cast_to=answer_type, content=self._body(call, {}))

    def _body(self, call: Call, mode: Mapping[str, Any]) -> bytes:
        return orjson.dumps({**self.request(call), **mode})

    @contextmanager
    def failures(self) -> Iterator[None]:
        """Turn the SDK's errors into ours.

        ``from None`` throughout: the SDK's messages quote response bodies, and those quote requests and keys.
        """
        try:
            yield
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
        except json.JSONDecodeError:
            raise ProviderError(FailureKind.SERVER, "the provider sent something that is not JSON") from None
        except (AttributeError, LookupError, TypeError, ValueError) as error:  # nobody checks what is parsed
            raise ProviderError(
                FailureKind.SERVER, f"the answer is malformed: {type(error).__name__}"
            ) from None


def is_simulated(model: object) -> bool:
    """Whether the simulator says that it answered."""
    return str(model).startswith(f"{SIMULATOR}/")


def _connection(cause: BaseException | None) -> ProviderError:
    if isinstance(cause, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.PoolTimeout):
        return ProviderError(FailureKind.UNREACHABLE, "the provider cannot be reached")
    return ProviderError(FailureKind.CONNECTION, "the connection broke off")
