"""Tests that a server stops without resetting a request, over real sockets and with a small application."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import pytest
import uvicorn
from controlled_provider import eventually
from redis_process import free_port

from service.processes.listener import open_listeners
from service.processes.server import StoppableServer

REQUEST = b"GET /%s HTTP/1.1\r\nhost: x\r\n\r\n"


@dataclass
class Served:
    """A running server whose application answers ``/slow…`` when the gate opens, all else at once."""

    server: StoppableServer
    port: int
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    begun: list[str] = field(default_factory=list)

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        self.begun.append(scope["path"])
        if scope["path"].startswith("/slow"):
            await self.gate.wait()
        body = scope["path"].encode()
        headers = [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def stop(self, seconds: float = 10) -> None:
        await self.server.close_listeners()
        await self.server.finish(asyncio.get_running_loop().time() + seconds)


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    port = free_port()
    served = Served(None, port)  # type: ignore[arg-type]
    options = {"interface": "asgi3", "lifespan": "off", "ws": "none", "log_config": None, "access_log": False}
    config = uvicorn.Config(served.app, **options)
    served.server = StoppableServer(config, open_listeners("127.0.0.1", port))
    await served.server.start()
    yield served
    served.gate.set()
    served.server.force_exit = True
    await served.stop(0)


async def answer(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """The head and the body of one answer."""
    head = await reader.readuntil(b"\r\n\r\n")
    return head.lower(), await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split()[0]))


async def test_a_request_under_way_is_answered_and_its_connection_closed(served: Served) -> None:
    reader, writer = await served.connect()
    writer.write(REQUEST % b"slow")
    await eventually(lambda: served.begun == ["/slow"])
    stop = asyncio.create_task(served.stop())
    await eventually(lambda: not served.server.servers[0].is_serving())
    with pytest.raises(ConnectionRefusedError):
        await served.connect()
    served.gate.set()
    head, body = await answer(reader)
    assert (b"connection: close" in head, body) == (True, b"/slow")
    assert await reader.read() == b""
    await stop
    writer.close()


async def test_while_it_announces_everything_is_answered_and_each_answer_closes(served: Served) -> None:
    reader, writer = await served.connect()
    writer.write(REQUEST % b"before")
    head, _ = await answer(reader)
    assert b"connection: close" not in head
    served.server.announce()
    writer.write(REQUEST % b"after")
    head, body = await answer(reader)
    assert (b"connection: close" in head, body) == (True, b"/after")
    assert await reader.read() == b""
    reader, new = await served.connect()
    new.write(REQUEST % b"new")
    assert (await answer(reader))[1] == b"/new"
    for each in (writer, new):
        each.close()


@pytest.mark.parametrize("announced_first", [False, True])
async def test_requests_that_came_at_once_are_all_answered(served: Served, announced_first: bool) -> None:
    reader, writer = await served.connect()
    if announced_first:
        served.server.announce()
    writer.write(b"".join(REQUEST % path for path in (b"slow1", b"slow2", b"slow3")))
    await eventually(lambda: served.begun == ["/slow1"])
    stop = asyncio.create_task(served.stop())
    await eventually(lambda: not served.server.servers[0].is_serving())
    served.gate.set()
    answers = [await answer(reader) for _ in range(3)]
    assert [body for _, body in answers] == [b"/slow1", b"/slow2", b"/slow3"]
    assert [b"connection: close" in head for head, _ in answers] == [False, False, True]
    await stop
    writer.close()


async def test_a_request_of_which_a_part_has_come_gets_its_answer(served: Served) -> None:
    reader, writer = await served.connect()
    writer.write((REQUEST % b"late")[:20])
    await eventually(lambda: any(each.scope for each in served.server.server_state.connections))
    stop = asyncio.create_task(served.stop())
    await eventually(lambda: not served.server.servers[0].is_serving())
    writer.write((REQUEST % b"late")[20:])
    head, body = await answer(reader)
    assert (b"connection: close" in head, body) == (True, b"/late")
    await stop
    writer.close()


async def test_a_connection_that_waited_to_be_accepted_gets_its_answer(served: Served) -> None:
    """The server's own accepting is off, as where another process was to accept and has ended."""
    loop = asyncio.get_running_loop()
    loop.remove_reader(served.server._listeners[0].fileno())
    connections = [await served.connect() for _ in range(5)]
    for number, (_, writer) in enumerate(connections):
        writer.write(REQUEST % b"%d" % number)
    stop = asyncio.create_task(served.stop())
    bodies = [(await answer(reader))[1] for reader, _ in connections]
    assert bodies == [b"/%d" % number for number in range(5)]
    await stop
    for _, writer in connections:
        writer.close()


async def test_idle_connections_are_closed_and_do_not_hold_up_the_stop(served: Served) -> None:
    reader, writer = await served.connect()
    writer.write(REQUEST % b"once")
    await answer(reader)
    await served.stop()
    assert await reader.read() == b""
    writer.close()


async def test_what_lasts_longer_than_the_time_to_stop_is_cut(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    reader, writer = await served.connect()
    writer.write(REQUEST % b"slow")
    await eventually(lambda: served.begun == ["/slow"])
    await served.stop(seconds=0)
    with suppress(ConnectionResetError):
        assert await reader.read() == b""
    assert "1 requests were under way when the time to stop was over" in caplog.text
    assert "Traceback" not in caplog.text
    writer.close()
