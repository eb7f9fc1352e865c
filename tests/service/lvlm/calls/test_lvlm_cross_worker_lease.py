"""Workers that share a store do not make the same call twice, nor wait long for one that has died."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator

import pytest
from controlled_provider import eventually
from lvlm_parts import MemoryLeases
from redis_process import RedisServer

from service.lvlm.calls import cross_worker_lease
from service.lvlm.calls.cross_worker_lease import WorkLease
from service.stores.base import Leases, StoreError
from service.stores.redis import RedisConnection, RedisLeases

LEASE = 2.0

WORKER = f"""
import asyncio, sys
from service.lvlm.calls import cross_worker_lease
from service.stores.redis import RedisConnection, RedisLeases

async def look():
    return None

async def work():
    leases = RedisLeases(RedisConnection(sys.argv[1], timeout=5))
    async with cross_worker_lease.WorkLease(leases).claim("work", look, lambda: True):
        print("mine", flush=True)
        await asyncio.sleep(60)

cross_worker_lease.LEASE = {LEASE}
asyncio.run(work())
"""


@pytest.fixture(autouse=True)
def short_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cross_worker_lease, "LEASE", LEASE)


@pytest.fixture
async def leases(redis_server: RedisServer) -> AsyncIterator[Leases]:
    connection = RedisConnection(redis_server.url, timeout=5)
    yield RedisLeases(connection)
    await connection.close()


class Worker:
    """One of several that look into the same place before they do the work themselves.

    Attributes:
        found: result of another worker; None if it did the work itself.
        working: the work is its own.
    """

    def __init__(self, leases: Leases, results: list[str]) -> None:
        self.found: str | None = None
        self.working, self.wanted = False, True
        self._lease = WorkLease(leases)
        self._results = results

    async def work(self, until: asyncio.Event) -> None:
        async with self._lease.claim("work", self._look, lambda: self.wanted) as self.found:
            if self.found is None:
                self.working = True
                await until.wait()
                self._results.append("done")

    async def _look(self) -> str | None:
        return self._results[-1] if self._results else None


async def renewed(server: RedisServer, times: int) -> None:
    """Wait until the one lease there is has been given more time so often."""
    connection = RedisConnection(server.url, timeout=5)
    (key,) = await connection.client.keys("*")
    left = await connection.client.pttl(key)
    while times:
        await asyncio.sleep(0.01)
        before, left = left, await connection.client.pttl(key)
        times -= left > before
    await connection.close()


@pytest.mark.clock
async def test_the_work_of_a_process_that_is_killed_goes_to_the_next_one_when_its_lease_ends(
    redis_server: RedisServer, leases: Leases
) -> None:
    other = await asyncio.create_subprocess_exec(
        sys.executable, "-c", WORKER, redis_server.url, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert other.stdout is not None
        assert await asyncio.wait_for(other.stdout.readline(), 20) == b"mine\n"
        worker, done = Worker(leases, []), asyncio.Event()
        working = asyncio.create_task(worker.work(done))
        await renewed(redis_server, times=2)
        assert not worker.working, "the other one lives and renews its lease"
    finally:
        other.kill()
        await other.wait()
    await eventually(lambda: worker.working)
    done.set()
    await working


@pytest.mark.usefixtures("clock")
async def test_other_workers_find_the_result_of_the_one_with_the_lease_however_long_it_takes() -> None:
    leases, results, done = MemoryLeases(), list[str](), asyncio.Event()
    workers = [Worker(leases, results) for _ in range(3)]
    tasks = [asyncio.create_task(worker.work(done)) for worker in workers]
    await asyncio.sleep(2.5 * LEASE)
    assert [worker.working for worker in workers] == [True, False, False]
    done.set()
    await asyncio.gather(*tasks)
    assert [worker.found for worker in workers] == [None, "done", "done"]
    assert results == ["done"]
    assert leases.held == {}


@pytest.mark.usefixtures("clock")
async def test_a_worker_that_is_cancelled_releases_the_lease_at_once() -> None:
    leases, done = MemoryLeases(), asyncio.Event()
    first, second = (Worker(leases, []) for _ in range(2))
    giving_up = asyncio.create_task(first.work(done))
    await eventually(lambda: first.working)
    waiting = asyncio.create_task(second.work(done))
    await asyncio.sleep(0.05)
    giving_up.cancel()
    await eventually(lambda: second.working, seconds=LEASE / 2)
    done.set()
    await waiting


@pytest.mark.usefixtures("clock")
async def test_a_worker_whose_result_is_no_longer_wanted_stops_looking() -> None:
    leases = MemoryLeases()
    await leases.take("work", "other", 60)
    worker = Worker(leases, [])
    waiting = asyncio.create_task(worker.work(asyncio.Event()))
    await asyncio.sleep(0.05)
    worker.wanted = False
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(waiting), 2)
    assert waiting.done()
    assert not worker.working


@pytest.mark.usefixtures("clock")
async def test_without_the_store_each_worker_works_alone() -> None:
    class Down(MemoryLeases):
        async def take(self, key: str, holder: str, ttl: float) -> bool:
            raise StoreError("down")

    workers = [Worker(Down(), []) for _ in range(2)]
    done = asyncio.Event()
    tasks = [asyncio.create_task(worker.work(done)) for worker in workers]
    await eventually(lambda: all(worker.working for worker in workers), seconds=1)
    done.set()
    await asyncio.gather(*tasks)
