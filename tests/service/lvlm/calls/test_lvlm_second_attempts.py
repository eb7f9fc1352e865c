"""A second attempt given up before it begins: not made, not counted, not paid, and still to be had."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from controlled_provider import BILLED, ControlledProvider, Step, says
from lvlm_parts import open_gateway

from service.lvlm.call_completion import Completion
from service.lvlm.calls.gateway import Gateway
from service.lvlm.calls.hedging import MAX_CREDIT
from service.lvlm.cost.budgets_and_quotas import Budget
from service.lvlm.cost.prices import Prices
from service.lvlm.provider_attempt import Ending
from service.lvlm.providers.base import Call, Prompt, Text
from service.metrics import Metrics
from service.stores.base import Sum
from service.stores.memory import MemoryMeters

pytestmark = pytest.mark.usefixtures("clock")

MODEL = "gpt-4o"
CALL = Call(Prompt("Rank.", (Text("data " * 80),), None, "1", answer_tokens=20), MODEL, max_output_tokens=100)
DOLLARS = Prices.read().cost(MODEL, BILLED) or 0.0
QUICK: list[Step] = [0.005, *says("quick")]
LESSONS = 60
"""Quick calls from which a gateway learns when a second attempt is worth while, and saves up for some."""


class HesitantMeters(MemoryMeters):
    """Lets a second attempt reserve what it takes only when it is told to.

    Attributes:
        asked: set when a reservation was asked for since it began to hesitate.
        go: what it waits for; None for nothing.
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
        self.metrics, self.meters = Metrics(), HesitantMeters()
        self.provider = ControlledProvider(*[QUICK] * LESSONS, *scripts, QUICK)
        self.gateway: Gateway = open_gateway(
            [self.provider], self.metrics, meters=self.meters, budget=Budget(usd_per_day=100.0), hedge=0.05
        )

    async def learn(self) -> None:
        for _ in range(LESSONS):
            await self.gateway.call("fake", CALL, 5)

    @property
    def calls(self) -> int:
        """Calls that the provider got since the lessons."""
        return len(self.provider.calls) - LESSONS

    def counted(self, name: str, **labels: str) -> float:
        labels = {"provider": "fake", "model": MODEL, **labels}
        return self.metrics.registry.get_sample_value(name, labels) or 0.0

    @property
    def made(self) -> float:
        """Second attempts, by the counter."""
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
    assert hedging.counted("msr_lvlm_tokens_total", direction="input") == (LESSONS + 1) * BILLED.input_tokens
    assert hedging.counted("msr_lvlm_estimated_tokens_total", direction="input") == 0
    assert hedging.counted("msr_lvlm_call_duration_seconds_count", outcome="cancelled") == 0
    assert hedging.meters.spent == pytest.approx((LESSONS + 1) * DOLLARS)


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
