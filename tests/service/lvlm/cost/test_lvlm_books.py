"""What the books say of attempts whose provider tells nonsense, nothing, or that it is a simulator."""

from __future__ import annotations

import asyncio
import math
import time

import pytest
from controlled_provider import ControlledProvider, Step
from hypothesis import given
from hypothesis import strategies as st
from lvlm_parts import open_gateway

from service.lvlm.calls.gateway import Gateway
from service.lvlm.cost.budgets_and_quotas import Budget
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

MODEL = "gpt-4o"
BLIND = Prompt("Rank.", (Text("told"),), None, "v")
PROMPT = Prompt(
    "Rank.",
    (Image(b"x", "image/png", 512, 384), Text("told " * 100)),
    None,
    "v",
    20,
    without_images=lambda: BLIND,
)
CALL = Call(PROMPT, MODEL, 200, complete=lambda text: text == "whole")
STOP = Finish(FinishReason.STOP, "m")


def opened(*script: Step, **options: object) -> tuple[Gateway, Metrics]:
    metrics = Metrics()
    return open_gateway([ControlledProvider(list(script))], metrics, **options), metrics  # type: ignore[arg-type]


def cost(metrics: Metrics, provider: str) -> float:
    labels = {"provider": provider, "model": MODEL}
    return metrics.registry.get_sample_value("msr_lvlm_cost_usd_total", labels) or 0.0


ABSURD = {
    "nothing": None,
    "zeros": Usage(0, 0),
    "input beyond what was sent": Usage(10**9, 7),
    "output beyond what can be written": Usage(120, 10**9),
    "no input": Usage(0, 7),
    "no output for a text": Usage(120, 0),
    "both": Usage(2**53, 2**53, 2**53, 2**53, 2**53),
}


@pytest.mark.parametrize("usage", ABSURD.values(), ids=ABSURD.keys())
async def test_usage_that_is_missing_or_cannot_be_is_estimated_and_marked(usage: Usage | None) -> None:
    gateway, metrics = opened(TextDelta("whole"), *([usage] if usage else []), STOP)
    completion = await gateway.call("fake", CALL, 5)
    await gateway.close()
    assert completion.ending is Ending.FINISHED
    assert completion.bill.estimated
    assert 50 < completion.bill.usage.input_tokens < 2_000
    assert 0 < completion.bill.usage.output_tokens < 200
    assert 0 < cost(metrics, "fake") < 0.02


async def test_usage_that_can_be_is_exact() -> None:
    gateway, _ = opened(TextDelta("whole"), Usage(300, 7, 100, 0, 85), STOP)
    completion = await gateway.call("fake", CALL, 5)
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
        await gateway.call("fake", CALL, 5)
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
async def test_after_any_answer_a_budget_holds_what_the_books_say_and_nothing_reserved(
    script: list[Step],
) -> None:
    meters = MemoryMeters()
    gateway, metrics = opened(*script, meters=meters, budget=Budget(usd_per_day=1_000))
    for _ in range(30):
        completion = await gateway.call("fake", CALL, 0.02)
        assert completion.ending is not Ending.BUDGET
    await gateway.close()
    today = int(time.time()) // 86_400
    held = sum(meters.total(f"usd:86400:{day}") for day in (today - 1, today))
    assert held == pytest.approx(cost(metrics, "fake"))


async def test_books_that_break_leave_nothing_reserved(monkeypatch: pytest.MonkeyPatch) -> None:
    meters = MemoryMeters()
    gateway, _ = opened(TextDelta("whole"), Usage(300, 7), STOP, meters=meters, budget=Budget(usd_per_day=1))
    monkeypatch.setattr(gateway._backend.ledger, "record", lambda attempt: 1 / 0)
    for _ in range(200):
        assert (await gateway.call("fake", CALL, 5)).ending is Ending.FINISHED
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
async def test_what_is_simulated_is_so_from_its_first_event_and_costs_nothing(script: list[Step]) -> None:
    gateway, metrics = opened(*script)
    completion = await gateway.call("fake", CALL, 0.05)
    await gateway.close()
    assert completion.responder.simulated
    assert completion.bill.cost_usd == 0
    assert cost(metrics, "fake") == cost(metrics, "simulator") == 0


async def test_dollars_of_a_rehearsal_stand_under_the_simulator_in_the_metrics() -> None:
    gateway, metrics = opened(SIMULATED, TextDelta("wh"), bill_simulated=True)
    completion = await gateway.call("fake", CALL, 5)
    await gateway.close()
    assert completion.responder.simulated
    assert completion.bill.cost_usd == pytest.approx(cost(metrics, "simulator"))
    assert cost(metrics, "simulator") > 0
    assert cost(metrics, "fake") == 0


async def test_an_attempt_that_is_cut_before_its_head_is_like_those_before_it() -> None:
    provider = ControlledProvider([SIMULATED, TextDelta("whole"), STOP], [30.0])
    metrics = Metrics()
    gateway = open_gateway([provider], metrics)
    await gateway.call("fake", CALL, 5)
    await gateway.call("fake", CALL, 0.02)
    await gateway.close()
    assert cost(metrics, "fake") == 0


async def test_pictures_that_were_not_sent_are_not_estimated() -> None:
    gateway, _ = opened(Source("m", blind=True), TextDelta("whole"), STOP)
    blind = await gateway.call("fake", CALL, 5)
    await gateway.close()
    assert blind.responder.blind
    assert blind.bill.usage.image_tokens == 0
    assert blind.bill.usage.input_tokens < 20


async def test_a_head_is_no_word() -> None:
    attempt = ControlledProvider([Source("m"), 30.0])
    gateway = open_gateway([attempt])
    completion = await gateway.call("fake", CALL, 0.05, alternatives=(("fake", "gpt-4o-mini"),))
    await gateway.close()
    assert len(attempt.calls) == 2
    assert completion.responder.model == "gpt-4o-mini"
