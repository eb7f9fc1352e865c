"""The quota: reserved before an attempt, per minute and in dollars, and settled after it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from controlled_provider import ControlledProvider, fails, says
from gateway_parts import (
    CALL,
    DOLLARS,
    MODEL,
    BrokenMeters,
    SlowMeters,
    count,
    now,
    totals,
)
from lvlm_parts import open_gateway

from service.lvlm.bill import Bill
from service.lvlm.calls.call_progress import CallProgress
from service.lvlm.calls.gateway import Gateway
from service.lvlm.cost.budgets_and_quotas import SAFETY_FACTOR, Budget, Quota, RateLimit, Reservation
from service.lvlm.cost.ledger import Ledger
from service.lvlm.cost.prices import Prices
from service.lvlm.provider_attempt import Ending
from service.lvlm.providers.base import (
    FailureKind,
    Usage,
)
from service.metrics import Metrics
from service.stores.base import BURST, Flow, Meters
from service.stores.memory import MemoryMeters

pytestmark = pytest.mark.usefixtures("clock")


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


async def test_a_call_that_no_request_waits_for_draws_nothing_ahead_of_time() -> None:
    provider = ControlledProvider(says("abc"))
    gateway = open_gateway([provider], limits={"fake": RateLimit(requests_per_minute=60)})
    for _ in range(20):
        await gateway.call("fake", CALL, 60, progress=CallProgress(until=now(), awaited=False))
    assert BURST <= len(provider.calls) <= BURST + 1
    began = now()
    assert (await gateway.call("fake", CALL, 5)).ending is Ending.FINISHED
    assert now() - began < 2


async def test_an_answer_does_not_wait_for_the_meters() -> None:
    class Late(MemoryMeters):
        async def correct(self, flows: Sequence[Flow]) -> None:
            await asyncio.sleep(0.3)
            await super().correct(flows)

    gateway = open_gateway([ControlledProvider(says("abc"))], meters=Late(), budget=Budget(usd_per_day=1.0))
    began = now()
    assert (await gateway.call("fake", CALL, 5)).ending is Ending.FINISHED
    assert now() - began < 0.2
    await gateway.close()
    assert await totals(gateway) == pytest.approx([DOLLARS])


async def test_what_a_refused_attempt_had_drawn_is_given_back_whole() -> None:
    provider = ControlledProvider(fails(FailureKind.AUTHENTICATION))
    meters = MemoryMeters()
    gateway = open_gateway([provider], meters=meters, limits={"fake": RateLimit(requests_per_minute=1)})
    state = gateway.state("fake", MODEL)
    admit = state.breaker.admit
    state.breaker.admit = lambda: False  # type: ignore[method-assign]  # it opened while the call waited its turn
    await gateway.call("fake", CALL, 0.5)
    state.breaker.admit = admit  # type: ignore[method-assign]
    await gateway.call("fake", CALL, 0.5)
    assert len(provider.calls) == 1


def bill(tokens: int = 0, dollars: float = 0.0) -> Bill:
    return Bill(Usage(input_tokens=tokens), dollars)


async def reserved(quota: Quota, expected: Bill, patience: float = 0.05) -> Reservation:
    found = await quota.reserve("fake", MODEL, expected, now() + patience)
    assert isinstance(found, Reservation)
    return found


def limited(meters: Meters | None = None, budget: Budget | None = None, **limit: float) -> Quota:
    local = MemoryMeters()
    return Quota(meters or local, local, {"fake": RateLimit(**limit)}, budget)


async def test_without_limits_no_meter_is_asked() -> None:
    quota = Quota(BrokenMeters(), BrokenMeters())
    reservation = await reserved(quota, bill(10**9, 10**9))
    await quota.settle(reservation, bill(1, 1))


async def test_more_requests_than_the_minute_allows_end_at_the_limit_and_make_no_call() -> None:
    provider = ControlledProvider(says("abc"))
    limits = {"fake": RateLimit(requests_per_minute=60 * 3 / BURST)}
    gateway = open_gateway([provider], limits=limits)
    results = await asyncio.gather(*(gateway.call("fake", CALL, 0.5) for _ in range(6)))
    assert [completion.ending for completion in results] == [Ending.FINISHED] * 3 + [Ending.LIMIT] * 3
    assert len(provider.calls) == 3


async def test_a_request_waits_for_its_turn_if_it_has_the_time() -> None:
    provider = ControlledProvider(says("abc"))
    gateway = open_gateway([provider], limits={"fake": RateLimit(requests_per_minute=240)})
    results = await asyncio.gather(*(gateway.call("fake", CALL, 8) for _ in range(42)))
    assert {completion.ending for completion in results} == {Ending.FINISHED}
    first, *_, last = sorted(provider.times)
    assert 0.45 < last - first < 2  # two beyond the burst of 40, at four per second


@pytest.mark.parametrize(("name", "made"), [("fake", 2), (f"fake/{MODEL}", 2), ("fake/other", 4), ("x", 4)])
async def test_a_limit_holds_for_what_it_names(name: str, made: int) -> None:
    provider = ControlledProvider(says("abc"))
    gateway = open_gateway([provider], limits={name: RateLimit(requests_per_minute=60 * 2 / BURST)})
    await asyncio.gather(*(gateway.call("fake", CALL, 0.3) for _ in range(4)))
    assert len(provider.calls) == made


async def test_every_attempt_counts_against_the_requests_per_minute() -> None:
    provider = ControlledProvider(fails(FailureKind.SERVER), says("abc"))
    limits = {"fake": RateLimit(requests_per_minute=60 * 2 / BURST)}
    gateway = open_gateway([provider], attempts=2, limits=limits)
    assert (await gateway.call("fake", CALL, 2)).ending is Ending.FINISHED
    assert (await gateway.call("fake", CALL, 0.3)).ending is Ending.LIMIT
    assert len(provider.calls) == 2


async def test_tokens_that_were_not_used_are_given_back() -> None:
    quota = limited(tokens_per_minute=6_000)  # a burst of 1,000
    reservation = await reserved(quota, bill(600))
    assert await quota.reserve("fake", MODEL, bill(600), now() + 0.05) is Ending.LIMIT
    await quota.settle(reservation, bill(100))
    await reserved(quota, bill(600))


async def test_tokens_beyond_what_was_expected_delay_those_that_follow() -> None:
    quota = limited(tokens_per_minute=6_000)
    reservation = await reserved(quota, bill(100))
    await quota.settle(reservation, bill(950))
    assert await quota.reserve("fake", MODEL, bill(100), now() + 0.05) is Ending.LIMIT


async def test_a_limit_gives_the_budget_back() -> None:
    quota = limited(budget=Budget(usd_per_hour=SAFETY_FACTOR), requests_per_minute=60 / BURST)
    await reserved(quota, bill(dollars=0.4))
    for _ in range(5):
        assert await quota.reserve("fake", MODEL, bill(dollars=0.4), now() + 0.05) is Ending.LIMIT
    other = await quota.reserve("other", MODEL, bill(dollars=0.6), now() + 0.05)
    assert isinstance(other, Reservation)


@pytest.mark.parametrize(
    "budget",
    [Budget(usd_per_hour=0.6), Budget(usd_per_day=0.6), Budget(9.0, 0.6), Budget(0.6, 9.0)],
    ids=["hour", "day", "day of both", "hour of both"],
)
async def test_nothing_is_spent_beyond_the_budget(budget: Budget) -> None:
    quota = limited(budget=budget)
    reservation = await reserved(quota, bill(dollars=0.3))
    assert await quota.reserve("fake", MODEL, bill(dollars=0.3), now() + 1) is Ending.BUDGET
    await quota.settle(reservation, bill(dollars=0.1))
    reservation = await reserved(quota, bill(dollars=0.3))
    await quota.settle(reservation, bill(dollars=0.6))  # dearer than thought: it is spent all the same
    assert await quota.reserve("fake", MODEL, bill(dollars=0.001), now() + 1) is Ending.BUDGET


async def test_a_call_beyond_the_budget_is_not_made_and_says_so(metrics: Metrics) -> None:
    provider = ControlledProvider(says("abc"))
    gateway = open_gateway([provider], metrics, budget=Budget(usd_per_hour=(1.1 + SAFETY_FACTOR) * DOLLARS))
    await gateway.call("fake", CALL, 5)  # from then on the gateway knows what such a call takes
    endings = [(await gateway.call("fake", CALL, 5)).ending for _ in range(4)]
    assert endings == [Ending.FINISHED, *[Ending.BUDGET] * 3]
    spent = count(metrics, "msr_lvlm_cost_usd_total", provider="fake", model=MODEL)
    assert spent == pytest.approx(2 * DOLLARS)


async def test_many_calls_at_once_do_not_slip_past_the_budget_together(metrics: Metrics) -> None:
    provider = ControlledProvider([0.05, *says("abc")])
    gateway = open_gateway(
        [provider], metrics, concurrency=50, budget=Budget(usd_per_day=(1.1 + 4 * SAFETY_FACTOR) * DOLLARS)
    )
    await gateway.call("fake", CALL, 5)
    await asyncio.gather(*(gateway.call("fake", CALL, 5) for _ in range(50)))
    assert len(provider.calls) == 5


async def test_a_failure_that_is_not_billed_leaves_the_budget_whole() -> None:
    provider = ControlledProvider(fails(FailureKind.SERVER), says("abc"))
    gateway = open_gateway([provider], budget=Budget(usd_per_hour=1.0))
    await gateway.call("fake", CALL, 5)
    assert await totals(gateway) == pytest.approx([0.0])
    await gateway.call("fake", CALL, 5)
    assert await totals(gateway) == pytest.approx([DOLLARS])


async def test_what_costs_nothing_needs_no_budget(metrics: Metrics) -> None:
    provider, meters = ControlledProvider(says("abc")), MemoryMeters()
    gateway = Gateway(
        {"fake": provider},
        Ledger(Prices.read(), metrics, simulators=["fake"]),
        Quota(meters, meters, budget=Budget(usd_per_hour=0.0)),
        metrics,
        concurrency=8,
    )
    completion = await gateway.call("fake", CALL, 5)
    assert (completion.ending, completion.bill.cost_usd) == (Ending.FINISHED, 0.0)


@pytest.mark.parametrize("turns", range(14))
async def test_a_call_that_is_cancelled_before_the_attempt_gets_all_of_its_reservation_back(
    turns: int,
) -> None:
    """Cancelled after each number of turns of the event loop, with meters as slow as a network."""
    meters = SlowMeters()
    quota = limited(meters, Budget(usd_per_hour=10.0), requests_per_minute=60, tokens_per_minute=6_000)
    await reserved(quota, bill(900, 1.0))
    full_before = dict(meters.kept._full_at)
    leaving = asyncio.create_task(quota.reserve("fake", MODEL, bill(300, 2.0), now() + 5))
    for _ in range(turns):
        await asyncio.sleep(0)
    assert not leaving.done()
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    assert [total for total, _ in meters.kept._totals.values()] == pytest.approx([SAFETY_FACTOR])
    assert meters.kept._full_at == pytest.approx(full_before)


async def test_while_the_shared_meters_are_down_a_process_keeps_to_its_share() -> None:
    quota = Quota(
        BrokenMeters(),
        MemoryMeters(share=0.5),
        {"fake": RateLimit(requests_per_minute=60 * 4 / BURST)},
        Budget(usd_per_hour=1.0),
    )
    reservation = await reserved(quota, bill(dollars=0.3))
    assert await quota.reserve("fake", MODEL, bill(dollars=0.2), now() + 0.05) is Ending.BUDGET
    await quota.settle(reservation, bill(dollars=0.1))
    await reserved(quota, bill())
    assert await quota.reserve("fake", MODEL, bill(), now() + 0.05) is Ending.LIMIT


async def test_meters_that_fail_during_an_attempt_do_it_no_harm() -> None:
    meters = SlowMeters()
    quota = limited(meters, Budget(usd_per_hour=1.0), tokens_per_minute=6_000)
    provider, metrics = ControlledProvider([asyncio.Event()]), Metrics()
    provider = ControlledProvider([0.05, *says("abc")])
    gateway = Gateway({"fake": provider}, Ledger(Prices.read(), metrics), quota, metrics, concurrency=1)
    calling = asyncio.create_task(gateway.call("fake", CALL, 5))
    await provider.called(1)
    meters.down = True
    assert (await calling).ending is Ending.FINISHED
