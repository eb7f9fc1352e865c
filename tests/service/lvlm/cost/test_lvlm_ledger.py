"""The ledger's bills: of attempts that failed or were cut, and of usage that is missing or not plausible."""

from __future__ import annotations

import asyncio
import math
import time

import pytest
from controlled_provider import ControlledProvider, Step, eventually, fails, says
from gateway_parts import CALL, MODEL, RetriesWithoutPause, SlowMeters, count
from hypothesis import given
from hypothesis import strategies as st
from lvlm_parts import open_gateway

from service.lvlm.calls.gateway import Gateway
from service.lvlm.cost.budgets_and_quotas import Budget, Quota, RateLimit
from service.lvlm.cost.ledger import Ledger
from service.lvlm.cost.prices import Prices
from service.lvlm.provider_attempt import Ending
from service.lvlm.providers.base import (
    Call,
    FailureKind,
    Finish,
    FinishReason,
    Image,
    Prompt,
    ProviderError,
    Source,
    Text,
    TextDelta,
    Usage,
)
from service.metrics import Metrics
from service.stores.memory import MemoryMeters

pytestmark = pytest.mark.usefixtures("clock")


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


def recorded_tokens(
    metrics: Metrics, direction: str, provider: str = "fake", *, estimated: bool = False
) -> float:
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
        recorded_in_all = recorded_tokens(metrics, direction, "fake") + recorded_tokens(
            metrics, direction, "other"
        )
        assert recorded_in_all == total
    assert recorded_tokens(metrics, "input", "fake") > 0
    assert recorded_tokens(metrics, "input", "other") == 150
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
    assert recorded_tokens(metrics, "input", estimated=True) == completion.bill.usage.input_tokens


async def test_a_connection_that_broke_may_have_cost_something(metrics: Metrics) -> None:
    provider = ControlledProvider(fails(FailureKind.CONNECTION))
    completion = await open_gateway([provider], metrics).call("fake", CALL, 5)
    assert completion.bill.estimated
    assert completion.bill.usage.input_tokens > 0


async def test_a_cancelled_call_is_recorded_and_marked_as_estimated(metrics: Metrics) -> None:
    provider = ControlledProvider([TextDelta("abcd " * 20), asyncio.Event()])
    gateway = open_gateway([provider], metrics)
    leaving = asyncio.create_task(gateway.call("fake", CALL, 5))
    await provider.called(1)
    await asyncio.sleep(0)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    for direction in ("input", "output"):
        assert recorded_tokens(metrics, direction) == recorded_tokens(metrics, direction, estimated=True) > 0
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


async def test_input_tokens_reported_at_the_start_are_kept_when_the_stream_breaks(metrics: Metrics) -> None:
    provider = ControlledProvider([Usage(321, 1), TextDelta("abcd " * 20)])
    completion = await open_gateway([provider], metrics).call("fake", CALL, 5)
    assert completion.bill.usage.input_tokens == 321
    assert completion.bill.usage.output_tokens > 10
    assert completion.bill.estimated


@pytest.mark.parametrize("turns", range(0, 60, 2))
async def test_whenever_a_request_leaves_the_budget_and_the_ledger_agree_and_no_permit_is_lost(
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
        retries=RetriesWithoutPause(2),
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


# --- usage that is missing, not plausible or simulated ----------------------------------------------------

BLIND = Prompt("Rank.", (Text("told"),), None, "v")
PICTURE_PROMPT = Prompt(
    "Rank.",
    (Image(b"x", "image/png", 512, 384), Text("told " * 100)),
    None,
    "v",
    20,
    without_images=lambda: BLIND,
)
PICTURE_CALL = Call(PICTURE_PROMPT, MODEL, 200, complete=lambda text: text == "whole")
STOP = Finish(FinishReason.STOP, "m")


def opened(*script: Step, **options: object) -> tuple[Gateway, Metrics]:
    metrics = Metrics()
    return open_gateway([ControlledProvider(list(script))], metrics, **options), metrics  # type: ignore[arg-type]


def cost(metrics: Metrics, provider: str) -> float:
    labels = {"provider": provider, "model": MODEL}
    return metrics.registry.get_sample_value("msr_lvlm_cost_usd_total", labels) or 0.0


IMPLAUSIBLE = {
    "nothing": None,
    "zeros": Usage(0, 0),
    "input beyond what was sent": Usage(10**9, 7),
    "output beyond what can be written": Usage(120, 10**9),
    "no input": Usage(0, 7),
    "no output for a text": Usage(120, 0),
    "both": Usage(2**53, 2**53, 2**53, 2**53, 2**53),
}


@pytest.mark.parametrize("usage", IMPLAUSIBLE.values(), ids=IMPLAUSIBLE.keys())
async def test_usage_that_is_missing_or_cannot_be_is_estimated_and_marked(usage: Usage | None) -> None:
    gateway, metrics = opened(TextDelta("whole"), *([usage] if usage else []), STOP)
    completion = await gateway.call("fake", PICTURE_CALL, 5)
    await gateway.close()
    assert completion.ending is Ending.FINISHED
    assert completion.bill.estimated
    assert 50 < completion.bill.usage.input_tokens < 2_000
    assert 0 < completion.bill.usage.output_tokens < 200
    assert 0 < cost(metrics, "fake") < 0.02


async def test_usage_that_can_be_is_exact() -> None:
    gateway, _ = opened(TextDelta("whole"), Usage(300, 7, 100, 0, 85), STOP)
    completion = await gateway.call("fake", PICTURE_CALL, 5)
    await gateway.close()
    assert not completion.bill.estimated
    assert completion.bill.usage == Usage(300, 7, 100, 0, 85)


@given(
    st.builds(
        Usage,
        *[st.one_of(st.integers(0, 2**53), st.sampled_from([0, 1, 100, 10**6]))] * 5,
    )
)
def test_no_report_takes_more_than_a_call_can_cost(usage: Usage) -> None:
    async def spent() -> float:
        gateway, metrics = opened(TextDelta("whole"), usage, STOP)
        await gateway.call("fake", PICTURE_CALL, 5)
        await gateway.close()
        return cost(metrics, "fake")

    dollars = asyncio.run(spent())
    assert math.isfinite(dollars)
    assert 0 <= dollars < 0.10


SCRIPTS: dict[str, list[Step]] = {
    "a good answer": [TextDelta("whole"), Usage(300, 7), STOP],
    "a refusal": [TextDelta("no"), Usage(300, 7), Finish(FinishReason.REFUSAL, "m")],
    "absurd usage": [TextDelta("whole"), Usage(10**9, 10**9), STOP],
    "no usage": [TextDelta("whole"), STOP],
    "a cut": [TextDelta("wh")],
    "whole without an end": [TextDelta("whole")],
    "an error": [ProviderError(FailureKind.SERVER, "no")],
    "a fault of ours": [RuntimeError("a bug")],
    "silence": [30.0],
    "an oversized answer": [TextDelta("wh"), ProviderError(FailureKind.OVERSIZED, "no end")],
}


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS.keys())
async def test_after_any_answer_a_budget_holds_what_the_ledger_recorded_and_nothing_reserved(
    script: list[Step],
) -> None:
    meters = MemoryMeters()
    gateway, metrics = opened(*script, meters=meters, budget=Budget(usd_per_day=1_000))
    for _ in range(30):
        completion = await gateway.call("fake", PICTURE_CALL, 0.02)
        assert completion.ending is not Ending.BUDGET
    await gateway.close()
    today = int(time.time()) // 86_400
    held = sum(meters.total(f"usd:86400:{day}") for day in (today - 1, today))
    assert held == pytest.approx(cost(metrics, "fake"))


async def test_a_ledger_that_breaks_leaves_nothing_reserved(monkeypatch: pytest.MonkeyPatch) -> None:
    meters = MemoryMeters()
    gateway, _ = opened(TextDelta("whole"), Usage(300, 7), STOP, meters=meters, budget=Budget(usd_per_day=1))
    monkeypatch.setattr(gateway._backend.ledger, "record", lambda attempt: 1 / 0)
    for _ in range(200):
        assert (await gateway.call("fake", PICTURE_CALL, 5)).ending is Ending.FINISHED
    await gateway.close()


SIMULATED = Source("simulator/x", simulated=True)


@pytest.mark.parametrize(
    "script",
    [
        [
            SIMULATED,
            TextDelta("whole"),
            Usage(300, 7),
            Finish(FinishReason.STOP, "simulator/x", simulated=True),
        ],
        [SIMULATED, TextDelta("wh"), 30.0],
        [SIMULATED, 30.0],
        [SIMULATED, TextDelta("wh")],
        [SIMULATED, TextDelta("wh"), ProviderError(FailureKind.CONNECTION, "broke")],
    ],
    ids=["whole", "cut by the deadline", "cut before a word", "cut off", "broken off"],
)
async def test_a_simulated_answer_is_known_from_its_first_event_and_costs_nothing(script: list[Step]) -> None:
    gateway, metrics = opened(*script)
    completion = await gateway.call("fake", PICTURE_CALL, 0.05)
    await gateway.close()
    assert completion.responder.simulated
    assert completion.bill.cost_usd == 0
    assert cost(metrics, "fake") == cost(metrics, "simulator") == 0


async def test_dollars_of_a_rehearsal_are_recorded_under_the_simulator_in_the_metrics() -> None:
    gateway, metrics = opened(SIMULATED, TextDelta("wh"), bill_simulated=True)
    completion = await gateway.call("fake", PICTURE_CALL, 5)
    await gateway.close()
    assert completion.responder.simulated
    assert completion.bill.cost_usd == pytest.approx(cost(metrics, "simulator"))
    assert cost(metrics, "simulator") > 0
    assert cost(metrics, "fake") == 0


async def test_an_attempt_that_is_cut_before_its_head_counts_as_simulated_if_earlier_ones_were() -> None:
    provider = ControlledProvider([SIMULATED, TextDelta("whole"), STOP], [30.0])
    metrics = Metrics()
    gateway = open_gateway([provider], metrics)
    await gateway.call("fake", PICTURE_CALL, 5)
    await gateway.call("fake", PICTURE_CALL, 0.02)
    await gateway.close()
    assert cost(metrics, "fake") == 0


async def test_pictures_that_were_not_sent_are_not_estimated() -> None:
    gateway, _ = opened(Source("m", blind=True), TextDelta("whole"), STOP)
    blind = await gateway.call("fake", PICTURE_CALL, 5)
    await gateway.close()
    assert blind.responder.blind
    assert blind.bill.usage.image_tokens == 0
    assert blind.bill.usage.input_tokens < 20


async def test_a_response_head_alone_does_not_keep_an_attempt_from_being_given_up() -> None:
    attempt = ControlledProvider([Source("m"), 30.0])
    gateway = open_gateway([attempt])
    completion = await gateway.call("fake", PICTURE_CALL, 0.05, alternatives=(("fake", "gpt-4o-mini"),))
    await gateway.close()
    assert len(attempt.calls) == 2
    assert completion.responder.model == "gpt-4o-mini"
