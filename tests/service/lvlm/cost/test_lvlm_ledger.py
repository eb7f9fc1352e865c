"""The books: what attempts took, also of those that failed, were cut or were given up."""

from __future__ import annotations

import asyncio

import pytest
from controlled_provider import ControlledProvider, Step, eventually, fails, says
from gateway_parts import (
    CALL,
    MODEL,
    Instantly,
    SlowMeters,
    count,
)
from lvlm_parts import open_gateway

from service.lvlm.calls.gateway import Gateway
from service.lvlm.cost.budgets_and_quotas import Budget, Quota, RateLimit
from service.lvlm.cost.ledger import Ledger
from service.lvlm.cost.prices import Prices
from service.lvlm.provider_attempt import Ending
from service.lvlm.providers.base import (
    FailureKind,
    ProviderError,
    TextDelta,
    Usage,
)
from service.metrics import Metrics
from service.stores.memory import MemoryMeters

pytestmark = pytest.mark.usefixtures("clock")


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


def booked(metrics: Metrics, direction: str, provider: str = "fake", *, estimated: bool = False) -> float:
    name = "msr_lvlm_estimated_tokens_total" if estimated else "msr_lvlm_tokens_total"
    return count(metrics, name, provider=provider, model=MODEL, direction=direction)


async def test_a_call_takes_what_all_its_attempts_took_over_all_providers(metrics: Metrics) -> None:
    first = ControlledProvider([TextDelta("abcd " * 20)], fails(FailureKind.SERVER), name="fake")
    second = ControlledProvider([TextDelta("ab"), Usage(50, 3)], says("abc"), name="other")
    gateway = open_gateway([first, second], metrics, attempts=2)
    completion = await gateway.call("fake", CALL, 5, alternatives=[("other", MODEL)])
    assert completion.ending is Ending.FINISHED
    for direction, total in (
        ("input", completion.bill.usage.input_tokens),
        ("output", completion.bill.usage.output_tokens),
    ):
        booked_in_all = booked(metrics, direction, "fake") + booked(metrics, direction, "other")
        assert booked_in_all == total
    assert booked(metrics, "input", "fake") > 0
    assert booked(metrics, "input", "other") == 150
    assert completion.bill.estimated
    spent = sum(
        count(metrics, "msr_lvlm_cost_usd_total", provider=name, model=MODEL) for name in ("fake", "other")
    )
    assert completion.bill.cost_usd == pytest.approx(spent)
    calls = "msr_lvlm_call_duration_seconds_count"
    assert count(metrics, calls, provider="fake", model=MODEL, outcome="truncated") == 1
    assert count(metrics, calls, provider="fake", model=MODEL, outcome="server") == 1
    assert count(metrics, calls, provider="other", model=MODEL, outcome="truncated") == 1
    assert count(metrics, calls, provider="other", model=MODEL, outcome="ok") == 1


BEFORE_ANY_WORK = [
    FailureKind.RATE_LIMITED,
    FailureKind.OVERLOADED,
    FailureKind.SERVER,
    FailureKind.UNREACHABLE,
    FailureKind.AUTHENTICATION,
    FailureKind.REQUEST,
]


@pytest.mark.parametrize("kind", BEFORE_ANY_WORK)
async def test_a_failure_before_any_work_costs_nothing(metrics: Metrics, kind: FailureKind) -> None:
    completion = await open_gateway([ControlledProvider(fails(kind))], metrics).call("fake", CALL, 5)
    assert (completion.bill.usage, completion.bill.cost_usd, completion.bill.estimated) == (
        Usage(),
        0.0,
        False,
    )


@pytest.mark.parametrize("kind", BEFORE_ANY_WORK)
async def test_the_same_failure_in_the_middle_of_an_answer_is_counted_and_marked(
    metrics: Metrics, kind: FailureKind
) -> None:
    script = [TextDelta("abcd " * 20), ProviderError(kind, "no")]
    completion = await open_gateway([ControlledProvider(script)], metrics).call("fake", CALL, 5)
    assert completion.bill.estimated
    assert completion.bill.usage.input_tokens > 0
    assert completion.bill.usage.output_tokens > 0
    assert (completion.bill.cost_usd or 0.0) > 0
    assert booked(metrics, "input", estimated=True) == completion.bill.usage.input_tokens


async def test_a_connection_that_broke_may_have_cost_something(metrics: Metrics) -> None:
    provider = ControlledProvider(fails(FailureKind.CONNECTION))
    completion = await open_gateway([provider], metrics).call("fake", CALL, 5)
    assert completion.bill.estimated
    assert completion.bill.usage.input_tokens > 0


async def test_a_cancelled_call_is_in_the_books_and_marked(metrics: Metrics) -> None:
    provider = ControlledProvider([TextDelta("abcd " * 20), asyncio.Event()])
    gateway = open_gateway([provider], metrics)
    leaving = asyncio.create_task(gateway.call("fake", CALL, 5))
    await provider.called(1)
    await asyncio.sleep(0)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    for direction in ("input", "output"):
        assert booked(metrics, direction) == booked(metrics, direction, estimated=True) > 0
    calls = "msr_lvlm_call_duration_seconds_count"
    assert count(metrics, calls, provider="fake", model=MODEL, outcome="cancelled") == 1
    assert count(metrics, "msr_lvlm_inflight") == 0
    assert gateway.state("fake", MODEL).concurrency.in_use == 0


async def test_a_finished_answer_without_usage_is_estimated_and_marked(metrics: Metrics) -> None:
    provider = ControlledProvider(says("abcd " * 20, usage=None))
    completion = await open_gateway([provider], metrics).call("fake", CALL, 5)
    assert (completion.ending, completion.bill.estimated) == (Ending.FINISHED, True)
    assert completion.bill.usage.input_tokens > 50
    assert completion.bill.usage.output_tokens > 10


async def test_input_tokens_told_at_the_start_are_kept_when_the_stream_breaks(metrics: Metrics) -> None:
    provider = ControlledProvider([Usage(321, 1), TextDelta("abcd " * 20)])
    completion = await open_gateway([provider], metrics).call("fake", CALL, 5)
    assert completion.bill.usage.input_tokens == 321
    assert completion.bill.usage.output_tokens > 10
    assert completion.bill.estimated


@pytest.mark.parametrize("turns", range(0, 60, 2))
async def test_whenever_a_request_leaves_the_budget_and_the_books_agree_and_no_permit_is_lost(
    metrics: Metrics, turns: int
) -> None:
    """Cancelled after each number of turns of the event loop, through a retry and an alternative."""
    shared, local = SlowMeters(), MemoryMeters()
    steps: list[Step] = [TextDelta("ab"), 0.0, TextDelta("cd"), 0.0]
    first = ControlledProvider([*steps, *fails(FailureKind.CONNECTION)], name="fake")
    second = ControlledProvider([*steps, *says("abc")], name="other")
    limits = {"fake": RateLimit(600, 60_000), "other": RateLimit(600, 60_000)}
    gateway = Gateway(
        {"fake": first, "other": second},
        Ledger(Prices.read(), metrics),
        Quota(shared, local, limits, Budget(usd_per_hour=10.0)),
        metrics,
        concurrency=1,
        retries=Instantly(2),
    )
    leaving = asyncio.create_task(gateway.call("fake", CALL, 5, alternatives=[("other", MODEL)]))
    for _ in range(turns):
        await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    await eventually(lambda: len(asyncio.all_tasks()) == 1)
    spent = sum(
        count(metrics, "msr_lvlm_cost_usd_total", provider=name, model=MODEL) for name in ("fake", "other")
    )
    for meters in (shared.kept, local):
        assert sum(total for total, _ in meters._totals.values()) == pytest.approx(spent, abs=1e-9)
    for name in ("fake", "other"):
        assert gateway.state(name, MODEL).concurrency.in_use == 0
    assert first.under_way == second.under_way == 0
    assert count(metrics, "msr_lvlm_inflight") == 0
