"""Tests that the benchmark of restarts sees what clients see, and that the service keeps its promise."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.edge.health_proxy import running_proxy
from benchmarks.edge.http_connection import HUNG, OK, REFUSED, RESET, HttpConnection

HOST = "127.0.0.1"
REQUEST = b"GET /%s HTTP/1.1\r\nhost: x\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
LAST = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok"
UNREADY = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n"


@asynccontextmanager
async def server(answer: Callable[[bytes], bytes | None]) -> AsyncIterator[tuple[int, list[bytes]]]:
    """Answers each head; b"" closes the connection and None never answers. Yields port and paths."""
    paths: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                path = (await reader.readuntil(b"\r\n\r\n")).split()[1]
                raw = answer(path)
                if path != b"/health/ready":
                    paths.append(path)
                if raw is None:
                    await reader.read()
                writer.write(raw or b"")
                if not raw or b"connection: close" in raw:
                    break
        except asyncio.IncompleteReadError:
            pass
        writer.close()

    listening = await asyncio.start_server(serve, HOST, 0)
    async with listening:
        yield listening.sockets[0].getsockname()[1], paths


@pytest.mark.parametrize(
    ("answer", "outcome"), [(ANSWER, OK), (LAST, OK), (UNREADY, "503"), (b"", RESET), (None, HUNG)]
)
async def test_the_outcome_of_a_request_is_told(answer: bytes | None, outcome: str) -> None:
    async with server(lambda _: answer) as (port, _):
        connection = HttpConnection(HOST, port)
        assert await connection.outcome(REQUEST % b"a", seconds=30 if answer is not None else 0.1) == outcome
        assert connection.is_open == (answer in (ANSWER, UNREADY))
        await connection.close()
    assert await HttpConnection(HOST, port).outcome(REQUEST % b"a", 30) == REFUSED


async def test_the_proxy_asks_only_servers_that_are_ready_and_repeats_nothing() -> None:
    two_is_ready = False

    def answer_of_two(path: bytes) -> bytes:
        return ANSWER if two_is_ready or path != b"/health/ready" else UNREADY

    async with (
        server(lambda path: ANSWER if path != b"/fails" else b"") as (one, paths_of_one),
        server(answer_of_two) as (two, paths_of_two),
        running_proxy(HOST, [one, two]) as proxy,
    ):
        await proxy.ready(1)
        client = HttpConnection(HOST, proxy.port)
        assert [await client.outcome(REQUEST % b"a", 30) for _ in range(4)] == [OK] * 4
        assert (len(paths_of_one), paths_of_two) == (4, [])
        assert await client.outcome(REQUEST % b"fails", 30) == "502"
        assert paths_of_one.count(b"/fails") == 1
        two_is_ready = True
        await proxy.ready(2)
        assert [await client.outcome(REQUEST % b"b", 30) for _ in range(4)] == [OK] * 4
        assert (paths_of_one.count(b"/b"), paths_of_two.count(b"/b")) == (2, 2)
        await client.close()


@pytest.mark.slow
def test_no_request_fails_while_services_are_stopped_and_started(bundle_folder: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    options = ["--restarts", "1", "--stops", "1", "--drain", "2", "--markdown", str(page)]
    assert main(["rolling", "--bundle", str(bundle_folder), *options]) == 0
    assert page.read_text().count(": met") == 3
