"""A client has only so much time for each part of a request, and to take what it was sent."""

import asyncio
import time

import pytest
from raw_http import GET, LARGE, app_served, until

POST = b"POST /b HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n"
TIMES = {"head_timeout_s": 10.0, "transfer_timeout_s": 30.0, "idle_timeout_s": 60.0}
MOST_LATE = 2.0  # seconds, by which a sweep a second may be late


def took(begun: float, limit: float) -> bool:
    return limit <= time.monotonic() - begun <= limit + MOST_LATE


async def test_a_connection_on_which_nothing_comes_is_closed(clock: object) -> None:
    async with app_served(**TIMES) as app, app.client() as client:
        begun = time.monotonic()
        assert await client.ended()
        assert took(begun, 10)
        assert app.refused("silent") == 1


@pytest.mark.parametrize("half", [b"G", b"GET /", b"GET / HTTP/1.1\r\nhost: x\r\n", b"\r\n"])
async def test_half_a_head_is_refused_in_time_also_when_it_trickles(half: bytes, clock: object) -> None:
    async with app_served(**TIMES) as app, app.client(half) as client:
        begun = time.monotonic()
        answer = asyncio.create_task(client.answer())
        while not answer.done():
            client.send(b"a" if half.startswith(b"GET") else b"")
            await asyncio.sleep(1)
        assert (await answer).status == 408
        assert (await answer).problem["detail"]
        assert took(begun, 10)
        assert await client.ended()
        assert app.refused("head_time") == 1


async def test_the_time_of_a_later_head_begins_with_its_first_byte(clock: object) -> None:
    async with app_served(**TIMES) as app, app.client() as client:
        assert (await client.ask("a")).status == 200
        await asyncio.sleep(50)
        begun = time.monotonic()
        client.send(b"GET /b HT")
        await asyncio.sleep(8)
        client.send(b"TP/1.1\r\n\r\n")
        assert (await client.answer()).status == 200
        client.send(b"GET")
        begun = time.monotonic()
        assert (await client.answer()).status == 408
        assert took(begun, 10)


@pytest.mark.parametrize(
    "start", [POST, POST.replace(b"\r\n\r\n", b"\r\nexpect: 100-continue\r\n\r\n")], ids=["plain", "expected"]
)
async def test_half_a_body_is_refused_in_time_and_its_application_ends(start: bytes, clock: object) -> None:
    async with app_served(**TIMES) as app, app.client(start) as client:
        begun = time.monotonic()
        if b"expect" in start:
            assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        answer = asyncio.create_task(client.answer())
        for _ in range(9):
            client.send(b"x")
            await asyncio.sleep(1)
        assert (await answer).status == 408
        assert took(begun, 30)
        assert await client.ended()
        assert app.left == ["/b"]
        assert app.refused("body_time") == 1


async def test_a_connection_between_two_requests_is_closed_in_time(clock: object) -> None:
    async with app_served(**TIMES) as app, app.client() as client:
        assert (await client.ask("a")).status == 200
        begun = time.monotonic()
        assert await client.ended()
        assert took(begun, 60)


async def test_an_answer_may_take_its_time(clock: object) -> None:
    async with app_served(**TIMES) as app, app.client(GET % b"wait") as client:
        await asyncio.sleep(100)
        app.released.set()
        assert (await client.answer()).status == 200


async def test_the_rest_of_a_body_that_was_answered_is_not_waited_for(clock: object) -> None:
    start = b"POST /early HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n"
    async with app_served(**TIMES) as app, app.client(start) as client:
        assert (await client.answer()).status == 401
        begun = time.monotonic()
        assert await client.ended()
        assert took(begun, 2)


async def test_a_client_that_does_not_end_after_its_refusal_is_cut_off(clock: object) -> None:
    async with app_served(**TIMES) as app, app.client(b"rubbish\r\n\r\n") as client:
        assert (await client.answer()).status == 400
        begun = time.monotonic()
        assert await client.ended()
        while not client.writer.is_closing() and time.monotonic() < begun + 10:
            client.send(b"x")
            await asyncio.sleep(0.1)
        assert took(begun, 2)


async def test_a_client_that_does_not_take_its_answer_is_cut_off() -> None:
    async with app_served(transfer_timeout_s=0.1) as app, app.client(GET % b"large") as client:
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await until(lambda: app.refused("unread") == 1)
        assert app.begun == ["/large"]


async def test_a_client_that_closed_its_side_and_does_not_take_its_answer_is_cut_off() -> None:
    async with app_served(transfer_timeout_s=0.1) as app, app.client(GET % b"large") as client:
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await until(lambda: app.begun == ["/large"])
        client.writer.write_eof()
        await until(lambda: app.metrics.connections._value.get() == 1)
        await until(lambda: app.metrics.connections._value.get() == 0)


async def test_of_answers_that_are_too_large_together_the_oldest_is_cut_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("service.http.connection.open_connections.MOST_UNREAD_BYTES", 1.5 * LARGE)
    async with app_served() as app, app.client(GET % b"large") as first:
        first.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await until(lambda: app.begun == ["/large"])
        async with app.client(GET % b"large") as second:
            assert len((await second.answer()).body) == LARGE
            assert app.refused("unread") == 1


async def test_a_client_that_left_ends_its_application(clock: object) -> None:
    async with app_served() as app:
        async with app.client(GET % b"wait" + GET % b"b") as client:
            await until(lambda: app.begun == ["/wait"])
            client.writer.close()
        await until(lambda: app.left == ["/wait"])
