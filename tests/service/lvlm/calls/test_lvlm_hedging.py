"""Hedging: a second attempt beside one that is slow to begin, and one that is given up before it begins."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from controlled_provider import BILLED, ControlledProvider, Step, fails, says
from gateway_parts import CALL, DOLLARS, MODEL, count, now
from lvlm_parts import open_gateway

from service.lvlm.call_completion import Completion
from service.lvlm.calls.call_progress import CallProgress
from service.lvlm.calls.gateway import Gateway
from service.lvlm.calls.hedging import MAX_CREDIT
from service.lvlm.cost.budgets_and_quotas import Budget
from service.lvlm.provider_attempt import Ending
from service.lvlm.providers.base import FailureKind, TextDelta
from service.metrics import Metrics
from service.stores.base import Sum
from service.stores.memory import MemoryMeters

pytestmark = pytest.mark.usefixtures("clock")


async def learn_latency(gateway: Gateway, calls: int = 60) -> None:
    """Makes quick calls, from which a gateway learns the model's latency and earns credit for hedges."""
    for _ in range(calls):
        await gateway.call("fake", CALL, 5)


def racing(*slow: Sequence[Step], **options: Any) -> tuple[Gateway, ControlledProvider, Metrics]:
    """A gateway that has seen sixty quick answers; these scripts are next, and quick ones follow."""
    metrics, quick = Metrics(), [0.005, *says("quick")]
    provider = ControlledProvider(*[quick] * 60, *slow, quick)
    return open_gateway([provider], metrics, hedge=0.05, **options), provider, metrics


async def test_a_call_that_is_slow_to_begin_is_made_a_second_time_and_the_first_answer_counts() -> None:
    gateway, provider, metrics = racing([2.0, *says("slow")])
    await learn_latency(gateway)
    began = now()
    completion = await gateway.call("fake", CALL, 5)
    assert now() - began < 0.5
    assert completion.text == "quick"
    assert len(provider.calls) == 62
    assert provider.cancelled == 1
    assert provider.under_way == 0
    for result in ("made", "won"):
        assert count(metrics, "msr_lvlm_hedges_total", provider="fake", model=MODEL, result=result) == 1
    # The bill is the sum of both attempts: one as reported, one estimated.
    assert completion.bill.usage.input_tokens > 1.5 * BILLED.input_tokens
    assert completion.bill.estimated
    assert gateway.state("fake", MODEL).concurrency.in_use == 0


async def test_the_first_attempt_may_still_win() -> None:
    gateway, provider, metrics = racing([0.15, *says("first")], [5.0, *says("second")])
    await learn_latency(gateway)
    assert (await gateway.call("fake", CALL, 5)).text == "first"
    assert len(provider.calls) == 62
    assert count(metrics, "msr_lvlm_hedges_total", provider="fake", model=MODEL, result="won") == 0
    assert gateway.state("fake", MODEL).concurrency.in_use == 0


async def test_of_two_that_begin_in_the_same_moment_one_answer_is_given_whole() -> None:
    first, second = asyncio.Event(), asyncio.Event()
    rest = [0.02, *says(" to the end")]
    gateway, provider, _ = racing(
        [first, TextDelta("the first"), *rest], [second, TextDelta("the second"), *rest]
    )
    await learn_latency(gateway)
    call = asyncio.create_task(gateway.call("fake", CALL, 5))
    await provider.called(62)
    await asyncio.sleep(0.01)
    second.set()
    first.set()
    assert (await call).text == "the second to the end"


async def test_when_the_first_fails_the_second_goes_on() -> None:
    gateway, provider, _ = racing([0.15, *fails(FailureKind.SERVER)], [0.2, *says("second")])
    await learn_latency(gateway)
    completion = await gateway.call("fake", CALL, 5)
    assert (completion.ending, completion.text) == (Ending.FINISHED, "second")
    assert len(provider.calls) == 62


async def test_when_both_fail_the_call_has_failed() -> None:
    refused = fails(FailureKind.REQUEST)
    gateway, provider, _ = racing([0.15, *refused], [0.05, *refused])
    await learn_latency(gateway)
    completion = await gateway.call("fake", CALL, 5)
    assert (completion.ending, completion.failure) == (Ending.PROVIDER, FailureKind.REQUEST)
    assert len(provider.calls) == 62


async def test_both_end_with_the_deadline_and_the_prefix_of_the_one_that_began_is_kept() -> None:
    gateway, provider, _ = racing([asyncio.Event()], [0.02, TextDelta("ab"), asyncio.Event()])
    await learn_latency(gateway)
    completion = await gateway.call("fake", CALL, 0.4)
    assert (completion.ending, completion.text) == (Ending.DEADLINE, "ab")
    assert provider.under_way == 0


async def test_second_attempts_are_a_small_share_of_all() -> None:
    slow = [0.06, *says("slow")]
    gateway, provider, metrics = racing(*[slow] * 40)
    await learn_latency(gateway, 80)
    made = count(metrics, "msr_lvlm_hedges_total", provider="fake", model=MODEL, result="made")
    assert 1 <= made <= 5
    assert len(provider.calls) == 80 + made


@pytest.mark.parametrize("progress", [{"awaited": False}, {"measured": True}], ids=["unawaited", "measured"])
async def test_neither_a_call_that_no_request_waits_for_nor_a_measurement_is_hedged(
    progress: dict[str, bool],
) -> None:
    gateway, provider, _ = racing([0.15, *says("slow")])
    await learn_latency(gateway)
    completion = await gateway.call("fake", CALL, 5, progress=CallProgress(until=now() + 5, **progress))
    assert completion.text == "slow"
    assert len(provider.calls) == 61


async def test_a_second_attempt_needs_a_permit_and_money_at_once() -> None:
    gateway, provider, _ = racing([0.15, *says("slow")], concurrency=1)
    await learn_latency(gateway)
    assert (await gateway.call("fake", CALL, 5)).text == "slow"
    gateway, other, _ = racing([0.15, *says("slow")], budget=Budget(usd_per_day=62 * DOLLARS))
    await learn_latency(gateway)
    assert (await gateway.call("fake", CALL, 5)).text == "slow"
    assert len(provider.calls) == len(other.calls) == 61
    assert gateway.state("fake", MODEL).concurrency.in_use == 0


@pytest.mark.parametrize("seconds", [0.0, 0.005, 0.02, 0.03, 0.05])
async def test_at_whatever_moment_a_race_is_left_nothing_of_it_remains(seconds: float) -> None:
    gateway, provider, metrics = racing([0.3, *says("slow")], [0.3, *says("slow")])
    await learn_latency(gateway)
    call = asyncio.create_task(gateway.call("fake", CALL, 5))
    await asyncio.sleep(seconds)
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    await asyncio.sleep(0)
    assert provider.under_way == 0
    assert gateway.state("fake", MODEL).concurrency.in_use == 0
    counted = metrics.registry.get_sample_value("msr_lvlm_inflight") or 0.0
    assert counted == 0.0


# --- hedges that are given up before they begin: not made, not counted, not paid -------------------------

QUICK: list[Step] = [0.005, *says("quick")]
QUICK_CALLS = 60
"""Number of quick calls from which a gateway learns the model's latency and earns credit for some hedges."""


class PausedMeters(MemoryMeters):
    """Meters whose reservations wait for an event of the test.

    Attributes:
        asked: event that is set once a reservation waits.
        go: event that reservations wait for; None for no waiting.
    """

    go: asyncio.Event | None = None

    def __init__(self) -> None:
        super().__init__()
        self.asked = asyncio.Event()

    async def add(self, sums: Sequence[Sum]) -> bool:
        if self.go is not None:
            self.asked.set()
            await self.go.wait()
        return await super().add(sums)

    @property
    def spent(self) -> float:
        return sum(total for total, _ in self._totals.values())


class HedgedGateway:
    """A gateway that has seen quick answers, with a provider that then does what a test says."""

    def __init__(self, *scripts: Sequence[Step]) -> None:
        self.metrics, self.meters = Metrics(), PausedMeters()
        self.provider = ControlledProvider(*[QUICK] * QUICK_CALLS, *scripts, QUICK)
        self.gateway: Gateway = open_gateway(
            [self.provider], self.metrics, meters=self.meters, budget=Budget(usd_per_day=100.0), hedge=0.05
        )

    async def learn(self) -> None:
        for _ in range(QUICK_CALLS):
            await self.gateway.call("fake", CALL, 5)

    @property
    def calls(self) -> int:
        """Number of attempts that the provider got after the quick calls."""
        return len(self.provider.calls) - QUICK_CALLS

    def counted(self, name: str, **labels: str) -> float:
        labels = {"provider": "fake", "model": MODEL, **labels}
        return self.metrics.registry.get_sample_value(name, labels) or 0.0

    @property
    def made(self) -> float:
        """Number of hedges, by the metric."""
        return self.counted("msr_lvlm_hedges_total", result="made")

    async def overtaken(self, gate: asyncio.Event) -> Completion:
        """A call whose first attempt begins its answer while the second one waits for its reservation."""
        self.meters.asked.clear()
        calling = asyncio.create_task(self.gateway.call("fake", CALL, 60))
        await asyncio.sleep(0)  # the first attempt has its reservation
        await asyncio.sleep(0)
        self.meters.go = asyncio.Event()
        async with asyncio.timeout(10):
            await self.meters.asked.wait()
        gate.set()
        await asyncio.sleep(0.001)
        self.meters.go.set()
        self.meters.go = None
        return await calling

    async def settled(self) -> None:
        await asyncio.gather(*self.gateway._backend.quota._settling)


async def test_a_second_attempt_that_the_first_overtakes_before_it_begins_was_not_made() -> None:
    gate = asyncio.Event()
    hedging = HedgedGateway([gate, *says("first")])
    await hedging.learn()
    completion = await hedging.overtaken(gate)
    assert (completion.ending, completion.text, hedging.calls) == (Ending.FINISHED, "first", 1)
    assert hedging.made == 0
    assert hedging.gateway.state("fake", MODEL).concurrency.in_use == 0


async def test_a_second_attempt_that_never_began_is_in_no_bill_and_its_draw_goes_back() -> None:
    gate = asyncio.Event()
    hedging = HedgedGateway([gate, *says("first")])
    await hedging.learn()
    completion = await hedging.overtaken(gate)
    await hedging.settled()
    assert (completion.bill.usage, completion.bill.cost_usd, completion.bill.estimated) == (
        BILLED,
        DOLLARS,
        False,
    )
    assert (
        hedging.counted("msr_lvlm_tokens_total", direction="input") == (QUICK_CALLS + 1) * BILLED.input_tokens
    )
    assert hedging.counted("msr_lvlm_estimated_tokens_total", direction="input") == 0
    assert hedging.counted("msr_lvlm_call_duration_seconds_count", outcome="cancelled") == 0
    assert hedging.meters.spent == pytest.approx((QUICK_CALLS + 1) * DOLLARS)


async def test_a_second_attempt_that_never_began_leaves_the_credit_for_another() -> None:
    gates = [asyncio.Event() for _ in range(int(MAX_CREDIT) + 1)]
    hedging = HedgedGateway(*[[gate, *says("first")] for gate in gates], [30.0, *says("slow")])
    await hedging.learn()
    for gate in gates:  # more of them than were saved up for
        await hedging.overtaken(gate)
    assert (await hedging.gateway.call("fake", CALL, 60)).text == "quick"
    assert hedging.made == 1


@pytest.mark.parametrize("turns", range(12))
@pytest.mark.parametrize("seconds", [0.0, 0.0099999, 0.01])
async def test_whenever_a_call_is_given_up_only_attempts_that_the_provider_got_are_counted_and_paid(
    seconds: float, turns: int
) -> None:
    """Cancelled after each number of turns of the event loop, at the start and when the second begins."""
    hedging = HedgedGateway([asyncio.Event()], [asyncio.Event()])
    await hedging.learn()
    calling = asyncio.create_task(hedging.gateway.call("fake", CALL, 60))
    await asyncio.sleep(seconds)
    for _ in range(turns):
        await asyncio.sleep(0)
    calling.cancel()
    await asyncio.gather(calling, return_exceptions=True)
    await hedging.settled()
    assert hedging.counted("msr_lvlm_call_duration_seconds_count", outcome="cancelled") == hedging.calls
    assert hedging.made == max(0, hedging.calls - 1)
    assert (hedging.counted("msr_lvlm_estimated_tokens_total", direction="input") > 0) == (hedging.calls > 0)
    spent = hedging.counted("msr_lvlm_cost_usd_total")
    assert hedging.meters.spent == pytest.approx(spent, abs=1e-9)
    assert hedging.gateway.state("fake", MODEL).concurrency.in_use == hedging.provider.under_way == 0
