"""The requests of many clients are started in turn."""

import asyncio
from contextlib import AsyncExitStack

from raw_http import GET, app_served

from service.http.connection.request_turns import RequestTurns


async def test_a_client_with_many_requests_does_not_stand_before_another_with_one(clock: object) -> None:
    turns, started = RequestTurns(), []
    for number in range(6):
        turns.take("many", lambda number=number: started.append(number))  # type: ignore[misc]
    turns.take("one", lambda: started.append("one"))  # type: ignore[arg-type]
    turns.take("two", lambda: started.append("two"))  # type: ignore[arg-type]
    for _ in range(10):
        await asyncio.sleep(0)
    assert started == [0, 1, "one", "two", 2, 3, 4, 5]
    turns.take("many", lambda: started.append(6))
    assert started[-1] == 6  # at once, since no other waits


async def test_a_client_that_leaves_before_its_turn_costs_nothing(clock: object) -> None:
    async with app_served() as app:
        async with app.client(GET % b"a", host="127.0.0.2"), app.client(GET % b"b") as good:
            assert (await good.answer()).status == 200
        assert set(app.begun) <= {"/a", "/b"}


async def test_an_address_that_floods_lets_another_pass(clock: object) -> None:
    async with app_served() as app, AsyncExitStack() as stack:
        flood = [await stack.enter_async_context(app.client(host="127.0.0.2")) for _ in range(20)]
        good = await stack.enter_async_context(app.client())
        # All are there in the same pass of the event loop.
        for client in (*flood, good):
            client.send(GET % (b"good" if client is good else b"flood") * (1 if client is good else 9))
        assert (await good.answer()).status == 200
        assert app.begun.index("/good") < 40
        for client in flood:
            assert [(await client.answer()).status for _ in range(9)] == [200] * 9
