"""Sends requests to a service and times them; a reply with an error status is a value, not an exception."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import httpx

from benchmarks.errors import BenchmarkError
from models.contracts.service_urls import service_url
from service.strategies import STRATEGIES

KEY_VARIABLE = "MSR_API_KEY"
"""Environment variable with the API key, the same as the service reads; unset for a service without one."""

ATTEMPTS = 8
"""Number of times that a request is sent at most while the service answers 429 or 503 or closes connections;
then the last reply is reported."""

RETRY_STATUSES = (httpx.codes.TOO_MANY_REQUESTS, httpx.codes.SERVICE_UNAVAILABLE)
"""Statuses after which a request is sent again (RFC 9110, ``Retry-After``); any other one is an answer."""

PAUSE = 1.0
"""Seconds before another attempt when such a status has no usable ``Retry-After``."""

RECONNECT_WAIT = 0.2
"""Seconds before another attempt after a connection was closed under a request."""

MAX_RETRY_AFTER = 30.0
"""Seconds to which a longer ``Retry-After`` is shortened."""

_REFUSED = httpx.codes.UNPROCESSABLE_ENTITY

EVENT_STREAM = "text/event-stream"
ANSWER_EVENT = "answer"
"""Kind of a stream's last event, whose content is the same as the answer to a request without a stream."""

Event = tuple[str, dict[str, Any]]
"""A server-sent event: its kind and the JSON object of its data."""


@dataclass(frozen=True, slots=True)
class Reply:
    """The reply to one request, or the reason why there is none.

    Attributes:
        status: HTTP status; None when no answer arrived.
        body: JSON object of the answer; empty without one.
        seconds: time from sending the last attempt to the last byte of its answer, in seconds.
        attempts: number of times that the request was sent, at least 1.
        error: reason why there is no usable answer; None for a 200 with a JSON object.
        events: every event of an event stream, in order; ``body`` is the content of the last one.
    """

    status: int | None
    body: dict[str, Any]
    seconds: float
    attempts: int
    error: str | None
    events: tuple[Event, ...] = ()


def backbone_of(reply: Reply) -> str | None:
    """Returns the name of the backbone that answered; None where the reply names none."""
    name = (reply.body.get("backbone") or {}).get("name")
    return name if isinstance(name, str) else None


class ServiceClient:
    """Sends requests to one service over kept-alive connections."""

    def __init__(self, url: str, connections: int = 1, timeout: float = 330.0) -> None:
        """Opens nothing yet.

        Args:
            url: base URL of the service.
            connections: number of requests that may be under way at once, at least 1.
            timeout: seconds to wait for a reply; the default is above the longest deadline, 300 s.

        Raises:
            BenchmarkError: the URL is not valid.
        """
        try:
            self.url = service_url(url)
        except ValueError as error:
            raise BenchmarkError(str(error)) from error
        # Idle connections are all kept, so that none has to be opened while a request is timed.
        limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
        self._http = httpx.AsyncClient(
            base_url=self.url,
            headers={"X-API-Key": key} if (key := os.environ.get(KEY_VARIABLE)) else {},
            limits=limits,
            timeout=httpx.Timeout(timeout, connect=10),
            # A proxy that the environment names would be measured too.
            trust_env=False,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def check_ready(self) -> None:
        """Checks that the service is running and ready.

        Raises:
            BenchmarkError: it is not; the message says what to do.
        """
        try:
            response = await self._http.get("/health/ready")
        except httpx.HTTPError as error:
            raise BenchmarkError(
                f"no service answers at {self.url} ({_reason(error)}): "
                "start one with `make run`, or give its --url"
            ) from error
        if response.status_code != httpx.codes.OK:
            raise BenchmarkError(f"the service at {self.url} {_unready(response.status_code)}")

    async def check_serves(
        self, payload: Mapping[str, Any], options: Mapping[str, str], strategies: Iterable[str]
    ) -> Mapping[str, Reply]:
        """Asks what a run will ask, before anything is recorded or paid.

        The request has the run's own history, candidates and options, and so shows a wrong key, prefix,
        backbone, provider or model, and items that the service does not know. A strategy that asks an LVLM is
        asked for as ``none``, which checks the same options and costs nothing.

        Args:
            payload: JSON body of one of the run's requests.
            options: query parameters of the run, without the strategy.
            strategies: strategies of the run.

        Returns:
            The reply by strategy; one with the status 422 refuses its strategy.

        Raises:
            BenchmarkError: the service is not ready, or would turn every request away.
        """
        await self.check_ready()
        replies: dict[str, Reply] = {}
        for strategy in strategies:
            name = "none" if STRATEGIES[strategy].asks_lvlm else strategy
            if name not in replies:
                replies[name] = await self.recommend({**payload, "k": 1}, {**options, "strategy": name})
            replies[strategy] = reply = replies[name]
            # A 500 may be one of this user alone, and is a finding.
            if reply.error is not None and reply.status not in (_REFUSED, httpx.codes.INTERNAL_SERVER_ERROR):
                raise BenchmarkError(
                    f"the service at {self.url} turns every request away ({reply.error}): mend that and "
                    "repeat the command, nothing was recorded"
                )
        return replies

    async def wait_until_ready(self, seconds: float = 60.0) -> None:
        """Waits for a service that has just been started.

        Raises:
            BenchmarkError: it is not ready in time.
        """
        end = time.monotonic() + seconds
        while True:
            try:
                await self.check_ready()
            except BenchmarkError:
                if time.monotonic() > end:
                    raise
                await asyncio.sleep(0.1)
            else:
                return

    async def metrics(self) -> str:
        """Reads the text of ``GET /metrics``.

        Raises:
            BenchmarkError: it cannot be read.
        """
        try:
            response = await self._http.get("/metrics")
            response.raise_for_status()
        except httpx.HTTPError as error:
            raise BenchmarkError(f"cannot read {self.url}/metrics: {_reason(error)}") from error
        return response.text

    async def recommend(
        self, payload: Mapping[str, Any], options: Mapping[str, str], *, with_events: bool = False
    ) -> Reply:
        """Sends ``POST /recommend``, again after a status of ``RETRY_STATUSES``, and returns the last reply.

        A request is also sent again when the connection was closed, since the service may have been
        restarted. A service that cannot be connected to raises an error, so that its users do not count as
        misses.

        Args:
            payload: JSON body.
            options: query parameters, ``strategy`` among them.
            with_events: whether an event stream is asked for, as the service's page does.

        Raises:
            BenchmarkError: the service cannot be connected to.
        """
        for attempt in range(1, ATTEMPTS + 1):
            reply, wait = await self._attempt(payload, options, attempt, with_events)
            if wait is None or attempt == ATTEMPTS:
                break
            await asyncio.sleep(wait)
        return reply

    async def _attempt(
        self, payload: Mapping[str, Any], options: Mapping[str, str], attempt: int, with_events: bool
    ) -> tuple[Reply, float | None]:
        """Sends the request once; returns the reply, and the seconds before another attempt or None."""
        request = self._http.build_request(
            "POST",
            "/recommend",
            json=payload,
            params=dict(options),
            headers={"accept": EVENT_STREAM} if with_events else {},
        )
        begun = time.perf_counter()  # after the body is encoded, which is not the service's time
        try:
            response = await self._http.send(request)
        except httpx.ConnectError as error:
            raise BenchmarkError(
                f"the service at {self.url} is gone ({_reason(error)}): start it again and repeat the command"
            ) from error
        except httpx.HTTPError as error:
            # A timeout is not repeated: the service may still be working on the request.
            broken = isinstance(error, httpx.NetworkError | httpx.RemoteProtocolError)
            wait = (
                RECONNECT_WAIT if broken and not with_events else None
            )  # a broken stream is a finding by itself
            # A request that failed is timed until its failure.
            return Reply(None, {}, time.perf_counter() - begun, attempt, _reason(error)), wait
        seconds = time.perf_counter() - begun
        if response.headers.get("content-type", "").startswith(EVENT_STREAM):
            reply = _read_events(response, seconds, attempt)
        else:
            body, error_text = _read(response)
            reply = Reply(response.status_code, body, seconds, attempt, error_text)
        return reply, _retry_after(response) if response.status_code in RETRY_STATUSES else None


def _unready(status: int) -> str:
    """Says what a status of the check for readiness means."""
    if status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
        return f"wants a key (it says {status}): set {KEY_VARIABLE}"
    if status == httpx.codes.NOT_FOUND:
        return f"has no MSR Serve at this path (it says {status}): is a prefix of the URL missing or wrong?"
    if httpx.codes.is_redirect(status):
        return f"sends to another address (it says {status}): give that one"
    return f"is not ready (it says {status}): try again soon"


def _read(response: httpx.Response) -> tuple[dict[str, Any], str | None]:
    try:
        body = response.json()
    except ValueError:
        return {}, f"{response.status_code} without JSON: {response.text[:200]}"
    if not isinstance(body, dict):
        return {}, f"{response.status_code} with JSON that is no object"
    if response.status_code != httpx.codes.OK:
        return body, f"{response.status_code}: {body.get('detail') or body.get('title') or 'no detail'}"
    return body, None


def _read_events(response: httpx.Response, seconds: float, attempt: int) -> Reply:
    try:
        events = tuple(event for block in response.content.split(b"\n\n") if (event := _event(block)))
    except ValueError:
        return Reply(response.status_code, {}, seconds, attempt, "an event that is not JSON")
    # The answer is always the last event.
    kind, body = events[-1] if events else ("", {})
    if kind == ANSWER_EVENT:
        return Reply(response.status_code, body, seconds, attempt, None, events)
    error = f"the event stream ends with {kind or 'nothing'} instead of its answer"
    return Reply(response.status_code, {}, seconds, attempt, error, events)


def _event(block: bytes) -> Event | None:
    """Parses one block of an event stream (HTML standard, 9.2.6); None for a comment."""
    # The service writes each field of an event on one line, with one space after the colon.
    fields = dict(line.split(b": ", 1) for line in block.split(b"\n") if line and not line.startswith(b":"))
    if b"data" not in fields:
        return None
    return fields.get(b"event", b"").decode(), json.loads(fields[b"data"])


def _retry_after(response: httpx.Response) -> float:
    """Returns the seconds of ``Retry-After``; ``PAUSE`` without it or for a date (RFC 9110, 10.2.3)."""
    try:
        wanted = float(response.headers["retry-after"])
    except (KeyError, ValueError):
        return PAUSE
    return min(max(wanted, 0.0), MAX_RETRY_AFTER) if wanted == wanted else PAUSE  # noqa: PLR0124 - NaN


def _reason(error: httpx.HTTPError) -> str:
    return str(error) or type(error).__name__
