"""The contract of meters, in a process and in Redis, and that of leases, which only Redis has."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from redis_process import RedisServer

from service.lvlm.bill import Bill
from service.lvlm.cost.budgets_and_quotas import SAFETY_FACTOR, Budget, Quota, Reservation
from service.stores.base import BURST, Flow, Meters, StoreError, Sum
from service.stores.memory import MemoryMeters
from service.stores.redis import PAUSE_AFTER_FAILURE, RedisConnection, RedisLeases, RedisMeters

pytestmark = pytest.mark.clock

SLOW = 60.0  # one a second, so that an amount is a number of seconds; Redis has a clock of its own
BUSY = 5.0
"""Seconds that a busy machine may take for a few operations."""


@pytest.fixture
async def connection(redis_server: RedisServer) -> AsyncIterator[RedisConnection]:
    connection = RedisConnection(redis_server.url, timeout=5)
    yield connection
    await connection.close()


@pytest.fixture(params=["memory", "redis"])
def meters(request: pytest.FixtureRequest) -> Meters:
    if request.param == "memory":
        return MemoryMeters()
    return RedisMeters(request.getfixturevalue("connection"))


async def test_a_rested_flow_gives_a_burst_and_then_its_rate(meters: Meters) -> None:
    drawn = [await meters.draw([Flow("a", BURST / 2, SLOW)], patience=0.0) for _ in range(4)]
    assert drawn == [0.0, 0.0, None, None]


async def test_a_draw_with_patience_waits_for_its_turn(meters: Meters) -> None:
    await meters.draw([Flow("a", BURST, SLOW)], patience=0.0)
    waits = [await meters.draw([Flow("a", BURST, SLOW)], patience=10 * BURST) for _ in range(3)]
    for wait, due in zip(waits, (BURST, 2 * BURST, 3 * BURST), strict=True):
        assert wait is not None
        assert due - BUSY < wait <= due
    assert await meters.draw([Flow("a", BURST, SLOW)], patience=3 * BURST) is None


async def test_an_amount_larger_than_the_burst_takes_a_full_bucket_and_leaves_a_debt(meters: Meters) -> None:
    assert await meters.draw([Flow("a", 100, SLOW)], patience=0.0) == 0.0
    wait = await meters.draw([Flow("a", 1, SLOW)], patience=1_000)
    assert wait is not None
    assert 90 <= wait <= 100


async def test_all_flows_are_drawn_or_none(meters: Meters) -> None:
    await meters.draw([Flow("empty", BURST, SLOW)], patience=0.0)
    both = [Flow("full", BURST, SLOW), Flow("empty", BURST, SLOW)]
    assert await meters.draw(both, patience=0.0) is None
    assert await meters.draw([Flow("full", BURST, SLOW)], patience=0.0) == 0.0


async def test_a_correction_gives_back_or_takes_more(meters: Meters) -> None:
    await meters.draw([Flow("a", BURST, SLOW)], patience=0.0)
    await meters.correct([Flow("a", -2, SLOW)])
    assert await meters.draw([Flow("a", 2, SLOW)], patience=0.0) == pytest.approx(0.0, abs=0.01)
    await meters.correct([Flow("a", 50, SLOW)])
    wait = await meters.draw([Flow("a", 1, SLOW)], patience=100)
    assert wait is not None
    assert 51 - BUSY <= wait <= 51


async def test_totals_are_all_added_or_none(meters: Meters) -> None:
    small, large = Sum("hour", 0.4, 1.0, ttl=60), Sum("day", 0.4, 10.0, ttl=60)
    assert [await meters.add([large, small]) for _ in range(3)] == [True, True, False]
    assert await meters.add([Sum("day", 9.2, 10.0, ttl=60)])
    assert not await meters.add([Sum("day", 0.1, 10.0, ttl=60)])


async def test_settling_moves_a_total_past_or_below_its_limit(meters: Meters) -> None:
    assert await meters.add([Sum("a", 1.0, 1.0, ttl=60)])
    await meters.settle([Sum("a", -0.5, 1.0, ttl=60)])
    assert await meters.add([Sum("a", 0.5, 1.0, ttl=60)])
    await meters.settle([Sum("a", 5.0, 1.0, ttl=60)])
    assert not await meters.add([Sum("a", 0.000001, 1.0, ttl=60)])


async def test_an_untouched_total_is_forgotten(meters: Meters) -> None:
    assert await meters.add([Sum("a", 1.0, 1.0, ttl=0.05)])
    await asyncio.sleep(0.1)
    assert await meters.add([Sum("a", 1.0, 1.0, ttl=60)])


async def test_a_crowd_never_draws_more_than_there_is(meters: Meters) -> None:
    granted = await asyncio.gather(*(meters.add([Sum("a", 0.1, 1.0, ttl=60)]) for _ in range(50)))
    assert granted.count(True) in (9, 10)  # ten tenths are a little more than one


async def test_a_processs_share_is_its_part_of_every_limit() -> None:
    meters = MemoryMeters(share=0.5)
    assert await meters.add([Sum("a", 0.5, 1.0, ttl=60)])
    assert not await meters.add([Sum("a", 0.1, 1.0, ttl=60)])
    assert await meters.draw([Flow("a", BURST / 2, SLOW)], patience=0.0) == 0.0
    assert await meters.draw([Flow("a", 1, SLOW)], patience=0.0) is None


async def test_a_budget_holds_over_the_loss_of_the_shared_totals(redis_server: RedisServer) -> None:
    connection = RedisConnection(redis_server.url, timeout=5)
    workers = [quota_of_a_worker(connection, share=0.5) for _ in range(2)]
    assert [await spends(worker, 0.4) for worker in workers] == [True, True]
    redis_server.stop()
    assert [await spends(worker, 0.2) for worker in workers] == [False, False]  # 0.6 of a part of 0.5
    assert [await spends(worker, 0.05) for worker in workers] == [True, True]
    redis_server.start()
    await asyncio.sleep(PAUSE_AFTER_FAILURE + 0.1)
    assert [await spends(worker, 0.04) for worker in workers] == [True, True]  # 0.98 of 1 now
    assert [await spends(worker, 0.04) for worker in workers] == [False, False]
    assert await spends(workers[0], 0.01)
    await connection.close()


def quota_of_a_worker(connection: RedisConnection, share: float) -> Quota:
    return Quota(RedisMeters(connection), MemoryMeters(share), {}, Budget(usd_per_day=1.0))


async def spends(worker: Quota, dollars: float) -> bool:
    """Whether the worker may draw what it then spends to the cent."""
    bill = Bill(cost_usd=dollars / SAFETY_FACTOR)
    grant = await worker.reserve("fake", "model", bill, asyncio.get_running_loop().time())
    if isinstance(grant, Reservation):
        await worker.settle(grant, Bill(cost_usd=dollars))
    return isinstance(grant, Reservation)


async def test_meters_that_are_down_say_so() -> None:
    connection = RedisConnection("redis://127.0.0.1:1/0", timeout=0.5)
    meters, leases = RedisMeters(connection), RedisLeases(connection)
    for asked in (
        meters.draw([Flow("a", 1, 1)], 1.0),
        meters.correct([Flow("a", 1, 1)]),
        meters.add([Sum("a", 1, 1, 1)]),
        meters.settle([Sum("a", 1, 1, 1)]),
        leases.take("a", "me", 1),
        leases.release("a", "me"),
    ):
        with pytest.raises(StoreError):
            await asked
    await connection.close()


async def test_a_lease_has_one_holder_who_can_renew_it(connection: RedisConnection) -> None:
    leases = RedisLeases(connection)
    assert await leases.take("a", "me", 60)
    assert not await leases.take("a", "you", 60)
    assert await leases.take("a", "me", 60)
    await leases.release("a", "you")
    assert not await leases.take("a", "you", 60)
    await leases.release("a", "me")
    assert await leases.take("a", "you", 60)


async def test_a_lease_that_is_not_renewed_ends(connection: RedisConnection) -> None:
    leases = RedisLeases(connection)
    assert await leases.take("a", "dead", 0.05)
    await asyncio.sleep(0.1)
    assert await leases.take("a", "me", 60)


@pytest.mark.parametrize("turns", range(8))
async def test_a_caller_that_is_cancelled_during_an_operation_is_cancelled(
    connection: RedisConnection, turns: int
) -> None:
    leases = RedisLeases(connection)
    await leases.take("a", "me", 60)  # connected
    taking = asyncio.create_task(leases.take("a", "me", 60))
    for _ in range(turns):
        await asyncio.sleep(0)
    if not taking.done():
        taking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await taking
