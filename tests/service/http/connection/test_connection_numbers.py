"""A worker has only so many connections, and a new client finds a place among them."""

import resource
from collections.abc import Iterator
from contextlib import AsyncExitStack

import pytest
from raw_http import GET, app_served, until

from service.http.connection import open_files
from service.http.connection.open_files import connections_possible


async def test_the_connection_that_was_silent_longest_gives_its_place_to_a_new_one(clock: object) -> None:
    async with app_served(connections=3) as app, AsyncExitStack() as stack:
        idle, half, busy = [await stack.enter_async_context(app.client()) for _ in range(3)]
        assert (await idle.ask("a")).status == 200
        half.send(b"GET / HTTP/1.1\r\n")
        busy.send(GET % b"wait")
        await until(lambda: app.begun == ["/a", "/wait"])
        async with app.client() as new:
            assert await idle.ended()
            assert (await new.ask("b")).status == 200
            half.send(b"a: b\r\n")  # now the new one is the most silent
            await until(lambda: app.metrics.connections._value.get() == 3)
            async with app.client() as newer:
                assert await new.ended()
                assert (await newer.ask("c")).status == 200
                async with app.client() as newest:
                    answer = await half.answer()
                    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
                    assert (await newest.ask("d")).status == 200
                    app.released.set()
                    assert (await busy.answer()).status == 200
        assert app.refused("displaced") == 3


async def test_a_new_connection_is_refused_while_all_others_are_answered(clock: object) -> None:
    async with app_served(connections=2) as app, AsyncExitStack() as stack:
        busy = [await stack.enter_async_context(app.client(GET % b"wait")) for _ in range(2)]
        await until(lambda: app.begun == ["/wait"] * 2)
        for _ in range(40):
            async with app.client(GET % b"a") as new:
                answer = await new.answer()
                assert (answer.status, answer.headers["retry-after"]) == (503, "1")
                assert answer.problem["title"]
                assert await new.ended()
        app.released.set()
        for client in busy:
            assert (await client.answer()).status == 200
        assert (await busy[0].ask("b")).status == 200
        assert app.refused("crowded") == 40


async def test_an_address_with_most_connections_gives_one_to_another_address(clock: object) -> None:
    async with app_served(connections=4) as app, AsyncExitStack() as stack:
        for _ in range(4):
            await stack.enter_async_context(app.client(GET % b"wait", host="127.0.0.2"))
        await until(lambda: app.begun == ["/wait"] * 4)
        async with app.client() as good:
            assert (await good.ask("a")).status == 200
            assert app.left == ["/wait"]
        assert app.refused("displaced") == 1


async def test_connections_that_come_and_go_leave_nothing(clock: object) -> None:
    async with app_served(connections=8) as app:
        for _ in range(200):
            async with app.client(b"GET"):
                pass
        async with app.client() as client:
            assert (await client.ask("a")).status == 200
        await until(lambda: app.metrics.connections._value.get() == 0)


@pytest.fixture
def limits() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_the_soft_limit_of_open_files_is_raised_as_far_as_needed(limits: None) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    assert connections_possible(100) == 100
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    assert soft == 100 + open_files.MOST_RESERVE


def test_a_low_hard_limit_leaves_fewer_connections_and_is_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 256))
    monkeypatch.setattr(resource, "setrlimit", lambda *_: None)
    assert connections_possible(4_096) == 160
    assert "MSR_MAX_CONNECTIONS" in caplog.text
    assert "160" in caplog.text
