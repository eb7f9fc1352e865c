"""Tests the limits of each client: over workers that share a real Redis, without one, and over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from moved_clock import MovedClock
from prometheus_client.parser import text_string_to_metric_families
from redis_process import RedisServer
from served import service_served, simulator_served

from service.errors import OverloadedError
from service.http import client_limits
from service.http.client_limits import OWN_PART_SECONDS, ClientLimit, ClientLimits, client_of
from service.metrics import Metrics
from service.stores.base import StoreError
from service.stores.client_rates import Rates
from service.stores.redis import RedisConnection
from service.stores.redis_client_rates import RedisRates


def limit_of(per_minute: int, *, workers: int = 1, shared: Rates | None = None) -> ClientLimit:
    limits = ClientLimits.of(per_minute, 0, workers=workers, shared=shared, metrics=Metrics())
    assert limits.requests is not None
    assert limits.lvlm_calls is None
    return limits.requests


async def admitted(limit: ClientLimit, requests: int, client: str = "a") -> int:
    """How many of so many simultaneous requests are let through."""
    taken = await asyncio.gather(*(limit.take(client) for _ in range(requests)), return_exceptions=True)
    assert {type(each) for each in taken} <= {type(None), OverloadedError}
    return taken.count(None)


@asynccontextmanager
async def two_workers(url: str, per_minute: int) -> AsyncIterator[list[ClientLimit]]:
    connections = [RedisConnection(url, timeout=30) for _ in range(2)]
    yield [limit_of(per_minute, workers=2, shared=RedisRates(each)) for each in connections]
    for connection in connections:
        await connection.close()


class CountedRates:
    """Shared counts that have room, are full or (None) down; it counts how often it is asked."""

    def __init__(self, answer: bool | None) -> None:
        self.answer, self.asked = answer, 0

    async def take(self, client: str, limit: int, amount: int) -> bool:
        self.asked += 1
        if self.answer is None:
            raise StoreError("down")
        return self.answer

    async def wait(self, client: str, limit: int) -> float:
        self.asked += 1
        return 20.0


async def test_workers_admit_exactly_a_small_limit_together(redis_server: RedisServer) -> None:
    async with two_workers(redis_server.url, 50) as workers:
        assert sum(await asyncio.gather(*(admitted(worker, 40) for worker in workers))) == 50
        assert await admitted(workers[0], 1, client="b") == 1


async def test_workers_reach_a_large_limit_together_to_one_per_cent(redis_server: RedisServer) -> None:
    async with two_workers(redis_server.url, 2_000) as workers:
        assert 1_980 <= sum(await asyncio.gather(*(admitted(worker, 1_500) for worker in workers))) <= 2_000


async def test_without_a_store_in_common_each_worker_has_its_part() -> None:
    assert [await admitted(limit_of(10, workers=2), 8) for _ in range(2)] == [5, 5]


async def test_a_client_goes_on_with_the_workers_part_while_redis_is_down(redis_server: RedisServer) -> None:
    async with two_workers(redis_server.url, 20) as workers:
        assert [await admitted(worker, 4) for worker in workers] == [4, 4]
        redis_server.stop()
        assert [await admitted(worker, 20) for worker in workers] == [6, 6]  # 10 each, with those from before


async def test_a_store_that_fails_is_left_alone_for_a_while(clock: MovedClock) -> None:
    shared = CountedRates(None)
    limit = limit_of(100, shared=shared)
    assert await admitted(limit, 10) == 10
    assert shared.asked == 1
    clock.move(OWN_PART_SECONDS)
    shared.answer = True
    assert await admitted(limit, 1) == 1
    assert shared.asked == 2


async def test_most_requests_ask_no_store() -> None:
    shared = CountedRates(True)
    assert await admitted(limit_of(300_000, shared=shared), 2_000) == 2_000
    assert shared.asked == 1


async def test_a_client_that_was_refused_and_goes_on_costs_the_store_nothing(clock: MovedClock) -> None:
    shared = CountedRates(False)
    limit = limit_of(100, shared=shared)
    assert await admitted(limit, 50) == 0
    assert shared.asked == 2  # for a permit, and for the wait
    clock.move(21)
    assert await admitted(limit, 1) == 0
    assert shared.asked == 4


async def test_a_client_that_waits_as_told_is_admitted(clock: MovedClock) -> None:
    limit = limit_of(3)
    assert await admitted(limit, 5) == 3
    with pytest.raises(
        OverloadedError, match=r"may send 3 requests a minute \(MSR_CLIENT_REQUESTS"
    ) as refusal:
        await limit.take("a")
    assert refusal.value.retry_after is not None
    clock.move(refusal.value.retry_after)
    assert await admitted(limit, 5) == 1


async def test_permits_of_a_minute_ago_are_not_given_out(clock: MovedClock) -> None:
    shared = CountedRates(True)
    limit = limit_of(1_000, shared=shared)
    await limit.take("a")
    shared.answer = False
    clock.move(61)
    assert await admitted(limit, 1) == 0


async def test_no_more_clients_are_remembered_than_agreed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_limits, "MAX_CLIENTS", 100)
    limit = limit_of(1_000)
    for number in range(500):
        await limit.take(f"client {number}")
    assert len(limit._clients) == 100


@pytest.mark.parametrize(
    ("client", "key", "name"),
    [
        (("192.0.2.7", 1), None, "192.0.2.7"),
        (("2001:db8:1:2:3:4:5:6", 1), None, "2001:db8:1:2::/64"),
        (("2001:db8:1:2::9%eth0", 1), None, "2001:db8:1:2::/64"),
        (("::ffff:192.0.2.7", 1), None, "192.0.2.7"),
        (("192.0.2.7", 1), "read", "key:read"),
        (None, None, "local"),
        (("", 0), None, ""),
    ],
)
def test_a_client_is_its_key_else_its_address_or_network(
    client: tuple[str, int] | None, key: str | None, name: str
) -> None:
    assert client_of({"client": client, "state": {"key": key}}) == name


def refusals(exposition: str) -> dict[str, float]:
    families = text_string_to_metric_families(exposition)
    samples = (sample for family in families for sample in family.samples)
    return {
        sample.labels["limit"]: sample.value
        for sample in samples
        if sample.name == "msr_client_limited_total"
    }


async def test_a_client_beyond_its_requests_is_told_when_to_come_back(
    bundle_folder: Path, clock: MovedClock
) -> None:
    settings = {"client_requests_per_minute": 3, "api_key": "k", "simulator_url": "http://127.0.0.1:1"}
    async with service_served(bundle_folder, **settings) as http:
        for _ in range(5):
            assert (await http.get("/users")).status_code == 401  # takes nothing from who has the key
        shown = [{"x-api-key": "k"}, {"authorization": "Bearer k"}]
        got = [(await http.get("/users", headers=shown[number % 2])).status_code for number in range(3)]
        assert got == [200] * 3
        refused = await http.post("/recommend", json={"user_id": "u1"}, headers=shown[0])
        assert refused.status_code == 429
        assert refused.headers["content-type"] == "application/problem+json"
        assert "MSR_CLIENT_REQUESTS_PER_MINUTE" in refused.json()["detail"]
        for path in ("/health/live", "/health/ready", "/metrics") * 3:
            assert (await http.get(path)).status_code == 200
        assert refusals((await http.get("/metrics")).text) == {"requests": 1}
        clock.move(int(refused.headers["retry-after"]))
        assert (await http.get("/users", headers=shown[0])).status_code == 200


async def test_lvlm_calls_have_a_limit_of_their_own(bundle_folder: Path, clock: MovedClock) -> None:
    async with (
        simulator_served() as simulator,
        service_served(bundle_folder, client_lvlm_calls_per_minute=2, simulator_url=simulator) as http,
    ):

        async def asked(strategy: str) -> int:
            return (await http.post(f"/recommend?strategy={strategy}", json={"user_id": "u1"})).status_code

        assert [await asked(strategy) for strategy in ("s3", "none", "s2", "s5")] == [200] * 4
        refused = await http.post("/recommend?strategy=s1", json={"user_id": "u1"})
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) > 0
        assert "MSR_CLIENT_LVLM_CALLS_PER_MINUTE" in refused.json()["detail"]
        assert await asked("none") == 200
        assert refusals((await http.get("/metrics")).text) == {"lvlm_calls": 1}
