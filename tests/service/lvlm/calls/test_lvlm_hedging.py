"""A second attempt beside one that is slow to begin."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from controlled_provider import BILLED, ControlledProvider, Step, fails, says
from gateway_parts import (
    CALL,
    DOLLARS,
    MODEL,
    count,
    now,
)
from lvlm_parts import open_gateway

from service.lvlm.calls.call_progress import CallProgress
from service.lvlm.calls.gateway import Gateway
from service.lvlm.cost.budgets_and_quotas import Budget
from service.lvlm.provider_attempt import Ending
from service.lvlm.providers.base import (
    FailureKind,
    TextDelta,
)
from service.metrics import Metrics

pytestmark = pytest.mark.usefixtures("clock")


async def taught(gateway: Gateway, calls: int = 60) -> None:
    """Let a gateway see how soon the model begins, and earn a second attempt or two."""
    for _ in range(calls):
        await gateway.call("fake", CALL, 5)


def racing(*slow: Sequence[Step], **options: Any) -> tuple[Gateway, ControlledProvider, Metrics]:
    """A gateway that has seen sixty quick answers; these scripts are next, and quick ones follow."""
    metrics, quick = Metrics(), [0.005, *says("quick")]
    provider = ControlledProvider(*[quick] * 60, *slow, quick)
    return open_gateway([provider], metrics, hedge=0.05, **options), provider, metrics


async def test_a_call_that_is_slow_to_begin_is_made_a_second_time_and_the_first_answer_counts() -> None:
    gateway, provider, metrics = racing([2.0, *says("slow")])
    await taught(gateway)
    began = now()
    completion = await gateway.call("fake", CALL, 5)
    assert now() - began < 0.5
    assert completion.text == "quick"
    assert len(provider.calls) == 62
    assert provider.cancelled == 1
    assert provider.under_way == 0
    for result in ("made", "won"):
        assert count(metrics, "msr_lvlm_hedges_total", provider="fake", model=MODEL, result=result) == 1
    # Both are in the bill: one as it was told, one as it is estimated.
    assert completion.bill.usage.input_tokens > 1.5 * BILLED.input_tokens
    assert completion.bill.estimated
    assert gateway.state("fake", MODEL).concurrency.in_use == 0


async def test_the_first_attempt_may_still_win() -> None:
    gateway, provider, metrics = racing([0.15, *says("first")], [5.0, *says("second")])
    await taught(gateway)
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
    await taught(gateway)
    call = asyncio.create_task(gateway.call("fake", CALL, 5))
    await provider.called(62)
    await asyncio.sleep(0.01)
    second.set()
    first.set()
    assert (await call).text == "the second to the end"


async def test_when_the_first_fails_the_second_goes_on() -> None:
    gateway, provider, _ = racing([0.15, *fails(FailureKind.SERVER)], [0.2, *says("second")])
    await taught(gateway)
    completion = await gateway.call("fake", CALL, 5)
    assert (completion.ending, completion.text) == (Ending.FINISHED, "second")
    assert len(provider.calls) == 62


async def test_when_both_fail_the_call_has_failed() -> None:
    refused = fails(FailureKind.REQUEST)
    gateway, provider, _ = racing([0.15, *refused], [0.05, *refused])
    await taught(gateway)
    completion = await gateway.call("fake", CALL, 5)
    assert (completion.ending, completion.failure) == (Ending.PROVIDER, FailureKind.REQUEST)
    assert len(provider.calls) == 62


async def test_both_end_with_the_deadline_and_the_prefix_of_the_one_that_began_is_kept() -> None:
    gateway, provider, _ = racing([asyncio.Event()], [0.02, TextDelta("ab"), asyncio.Event()])
    await taught(gateway)
    completion = await gateway.call("fake", CALL, 0.4)
    assert (completion.ending, completion.text) == (Ending.DEADLINE, "ab")
    assert provider.under_way == 0


async def test_second_attempts_are_a_small_share_of_all() -> None:
    slow = [0.06, *says("slow")]
    gateway, provider, metrics = racing(*[slow] * 40)
    await taught(gateway, 80)
    made = count(metrics, "msr_lvlm_hedges_total", provider="fake", model=MODEL, result="made")
    assert 1 <= made <= 5
    assert len(provider.calls) == 80 + made


@pytest.mark.parametrize("progress", [{"awaited": False}, {"measured": True}], ids=["unawaited", "measured"])
async def test_neither_a_call_that_no_request_waits_for_nor_a_measurement_is_hedged(
    progress: dict[str, bool],
) -> None:
    gateway, provider, _ = racing([0.15, *says("slow")])
    await taught(gateway)
    completion = await gateway.call("fake", CALL, 5, progress=CallProgress(until=now() + 5, **progress))
    assert completion.text == "slow"
    assert len(provider.calls) == 61


async def test_a_second_attempt_needs_a_permit_and_money_at_once() -> None:
    gateway, provider, _ = racing([0.15, *says("slow")], concurrency=1)
    await taught(gateway)
    assert (await gateway.call("fake", CALL, 5)).text == "slow"
    gateway, other, _ = racing([0.15, *says("slow")], budget=Budget(usd_per_day=62 * DOLLARS))
    await taught(gateway)
    assert (await gateway.call("fake", CALL, 5)).text == "slow"
    assert len(provider.calls) == len(other.calls) == 61
    assert gateway.state("fake", MODEL).concurrency.in_use == 0


@pytest.mark.parametrize("seconds", [0.0, 0.005, 0.02, 0.03, 0.05])
async def test_at_whatever_moment_a_race_is_left_nothing_of_it_remains(seconds: float) -> None:
    gateway, provider, metrics = racing([0.3, *says("slow")], [0.3, *says("slow")])
    await taught(gateway)
    call = asyncio.create_task(gateway.call("fake", CALL, 5))
    await asyncio.sleep(seconds)
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    await asyncio.sleep(0)
    assert provider.under_way == 0
    assert gateway.state("fake", MODEL).concurrency.in_use == 0
    counted = metrics.registry.get_sample_value("msr_lvlm_inflight") or 0.0
    assert counted == 0.0
