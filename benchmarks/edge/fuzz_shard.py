"""Sends a shard of generated requests to a service, and says which answers break the contract."""

from __future__ import annotations

import http.client
import json
import socket
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.request import ProxyHandler, Request, build_opener

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.strategies import SearchStrategy

from benchmarks.edge.fuzz_requests import (
    Vocabulary,
    WireRequest,
    credentials,
    described_requests,
    encoded,
    wire_requests,
)

PROBLEM = "application/problem+json"
ERRORS = (400, 401, 403, 404, 405, 408, 413, 414, 415, 422, 429, 431, 503, 507)
"""Statuses of errors that the service's contract has."""
ANSWER_SECONDS = 60.0
"""Seconds until an answer is complete; one that takes longer is a fault."""
LARGE = 60_000
"""Bytes from which on a request may be refused by closing the connection before all of it is read."""
DESCRIBED = 5
"""One request in so many is made by Schemathesis, which takes ten times as long over it."""
MAX_FAULTS = 20
"""Faults of a shard that are kept with their requests; those beyond are counted."""


@dataclass(frozen=True)
class Answer:
    """What came back.

    Attributes:
        status: HTTP status code; 0 if the connection was closed without an answer.
        content_type: media type with its parameters.
        body: content, empty for HEAD.
    """

    status: int
    content_type: str = ""
    body: bytes = b""


@dataclass
class ShardResult:
    """What became of the requests of one shard.

    Attributes:
        statuses: answers by status code, 0 for a connection that was closed.
        faults: sentences about answers that break the contract, with the requests.
        broken: number of such answers.
    """

    statuses: Counter[int] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    broken: int = 0

    @property
    def requests(self) -> int:
        """Requests that were sent."""
        return self.statuses.total()


def fault_of(request: WireRequest, answer: Answer) -> str | None:
    """Returns what is wrong with an answer; None for one that the contract allows."""
    status = answer.status
    if status == 0:
        must_answer = request.framed and len(request.content) < LARGE
        return "closed without an answer" if must_answer else None
    if status < 400:
        return None
    if status not in ERRORS:
        return f"status {status} is none of the contract's: {answer.body[:200]!r}"
    if answer.content_type != PROBLEM:
        return f"a {status} as {answer.content_type!r}: {answer.body[:200]!r}"
    if request.method == "HEAD" and not answer.body:
        return None
    try:
        problem = json.loads(answer.body)
        complete = problem["status"] == status and problem["title"] and problem["detail"] and problem["type"]
    except (ValueError, KeyError, TypeError):
        complete = False
    return None if complete else f"a {status} without type, title, status and detail: {answer.body[:200]!r}"


def run_shard(vocabulary: Vocabulary, number: int, requests: int) -> ShardResult:
    """Sends at least so many requests over one connection after the other.

    Args:
        vocabulary: what the requests are made of.
        number: seed of everything random: a shard sends the same requests each time.
        requests: requests to send.
    """
    result = ShardResult()
    client = _Client(vocabulary.host)

    def send(request: WireRequest) -> None:
        answer = client.ask(request)
        result.statuses[answer.status] += 1
        fault = fault_of(request, answer)
        if fault:
            result.broken += 1
            if len(result.faults) < MAX_FAULTS:
                result.faults.append(f"{fault}, to {request.content[:400]!r}")

    described = requests // DESCRIBED
    try:
        _draw(described_requests(vocabulary), send, number, described)
        while result.requests < requests:  # a few are drawn twice and not sent
            _draw(wire_requests(vocabulary), send, number, requests - result.requests)
            number += 1_000_003
    finally:
        client.close()
    return result


def _draw(
    strategy: SearchStrategy[WireRequest], send: Callable[[WireRequest], None], number: int, count: int
) -> None:
    @seed(number)
    @settings(
        max_examples=max(1, count),
        phases=[Phase.generate],
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def each(request: WireRequest) -> None:
        send(request)

    each()


def read_vocabulary(url: str, key: str = "") -> Vocabulary:
    """Asks a service for its description, and for items and users that exist.

    Raises:
        OSError: it does not answer.
    """
    opener = build_opener(ProxyHandler({}))  # the service is on this machine, whatever the environment says

    def get(path: str) -> Mapping[str, object]:
        request = Request(url + path, headers={"Authorization": f"Bearer {key}"} if key else {})  # noqa: S310
        with opener.open(request, timeout=ANSWER_SECONDS) as answer:
            found: Mapping[str, object] = json.loads(answer.read())
            return found

    def ids(path: str, name: str) -> list[str]:
        page = get(f"/{path}?limit=100")[path]
        assert isinstance(page, list)
        return [one[name] for one in page]

    bundle = get("/health/ready")["bundle"]
    assert isinstance(bundle, dict)
    return Vocabulary(
        get("/openapi.json"),
        url.partition("://")[2],
        ids("items", "item_id"),
        ids("users", "user_id"),
        list(bundle["backbones"]),
        key,
    )


def load_everything(vocabulary: Vocabulary) -> None:
    """Has the service load what it loads late, such as the SDK of the second simulator: tens of megabytes.

    Otherwise it would look like a leak in whichever shard first asks for it.
    """
    body = json.dumps({"history": vocabulary.items[:2], "k": 3}).encode()
    client = _Client(vocabulary.host)
    for provider in ("simulator", "simulator-anthropic"):
        target = f"/recommend?strategy=s3&provider={provider}".encode()
        host = (b"Host", vocabulary.host.encode())
        headers = (host, *credentials(vocabulary), (b"Content-Type", b"application/json"))
        client.ask(WireRequest("POST", encoded("POST", target, headers, body)))
    client.close()


class _Client:
    """Sends bytes over a connection that is kept while the service keeps it."""

    def __init__(self, host: str) -> None:
        name, _, port = host.rpartition(":")
        self._address = (name, int(port))
        self._socket: socket.socket | None = None

    def ask(self, request: WireRequest) -> Answer:
        """Sends a request and reads the whole answer."""
        kept = self._socket is not None
        answer = self._try(request)
        if answer.status == 0 and kept:  # the service may have closed the kept connection just before
            answer = self._try(request)
        return answer

    def _try(self, request: WireRequest) -> Answer:
        if self._socket is None:
            self._socket = socket.create_connection(self._address, timeout=ANSWER_SECONDS)
        with suppress(OSError):  # refused while it was sent: the answer may be there already
            self._socket.sendall(request.content)
            if not request.framed:
                self._socket.shutdown(socket.SHUT_WR)
        # Whatever was sent last, only an answer to HEAD has no body: others' methods are no method of theirs.
        response = http.client.HTTPResponse(self._socket, method=request.method)
        try:
            response.begin()
            answer = Answer(response.status, response.headers.get("content-type", ""), response.read())
        except (OSError, http.client.HTTPException):
            self.close()
            return Answer(0)
        if response.will_close or not request.framed:
            self.close()
        return answer

    def close(self) -> None:
        """Closes the connection."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
