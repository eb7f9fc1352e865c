"""Tests that fuzzed answers are judged by the contract, and that a shard repeats its requests exactly."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import pytest

from benchmarks.edge.fuzz import Outcome
from benchmarks.edge.fuzz_requests import Vocabulary, WireRequest
from benchmarks.edge.fuzz_shard import PROBLEM, Answer, fault_of, run_shard

GET = WireRequest("GET", b"GET / HTTP/1.1\r\n\r\n")


def problem(status: int, **changes: Any) -> bytes:
    return json.dumps(
        {"type": "about:blank", "title": "t", "status": status, "detail": "d"} | changes
    ).encode()


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        (GET, Answer(200, "text/html", b"<p>")),
        (GET, Answer(307)),
        (GET, Answer(422, PROBLEM, problem(422))),
        (GET, Answer(507, PROBLEM, problem(507))),
        (WireRequest("HEAD", b""), Answer(404, PROBLEM)),
        (WireRequest("GET", b"?", framed=False), Answer(0)),
        (WireRequest("POST", b"a" * 100_000), Answer(0)),
    ],
)
def test_an_answer_of_the_contract_is_fair(request_: WireRequest, answer: Answer) -> None:
    assert fault_of(request_, answer) is None


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (Answer(0), "closed without an answer"),
        (Answer(500, PROBLEM, problem(500)), "status 500 is none of the contract's"),
        (Answer(416, PROBLEM, problem(416)), "status 416 is none of the contract's"),
        (Answer(400, "text/plain", b"Invalid"), "a 400 as 'text/plain'"),
        (Answer(404, PROBLEM), "a 404 without type, title, status and detail"),
        (Answer(404, PROBLEM, b"[]"), "a 404 without"),
        (Answer(404, PROBLEM, problem(400)), "a 404 without"),
        (Answer(404, PROBLEM, problem(404, detail="")), "a 404 without"),
    ],
)
def test_an_answer_that_breaks_the_contract_is_named(answer: Answer, fault: str) -> None:
    found = fault_of(GET, answer)
    assert found is not None
    assert found.startswith(fault)


class Handler(BaseHTTPRequestHandler):
    """Answers every request with a bare 500, and keeps its first line."""

    seen: ClassVar[list[str]] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("do_"):
            return self.answer
        raise AttributeError(name)

    def answer(self) -> None:
        self.seen.append(self.requestline)
        self.send_error(500)

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def broken_server() -> Iterator[str]:
    """The host and port of a server whose every answer breaks the contract."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_shard_counts_every_broken_answer_and_repeats_its_requests(broken_server: str) -> None:
    description = {
        "openapi": "3.1.0",
        "info": {"title": "t", "version": "1"},
        "paths": {
            "/things/{item_id}": {
                "get": {
                    "parameters": [
                        {"name": "item_id", "in": "path", "required": True, "schema": {"type": "string"}}
                    ],
                    "responses": {"200": {"description": "fine"}},
                }
            }
        },
    }
    vocabulary = Vocabulary(description, broken_server, ["I1"], ["u1"], ["b"])
    rounds = []
    for _ in range(2):
        Handler.seen.clear()
        result = run_shard(vocabulary, 1, 15)
        rounds.append(list(Handler.seen))
        assert result.requests == 15
        assert result.broken >= result.statuses[500] > 5
    assert rounds[0] == rounds[1]
    assert any("/things/I1" in line for line in rounds[0])


def test_growth_is_from_the_highest_of_the_first_tenth_to_the_end() -> None:
    outcome = Outcome(memory=[10_000_000, 30_000_000, *[25_000_000] * 17, 55_000_000])
    assert outcome.grown == 25
    assert outcome.problems == ["its memory grew by 25 MB"]
