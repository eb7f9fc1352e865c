"""Outcomes of the stage for answers, faults and deadlines, through the real SDKs on real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from lvlm_parts import SCRIPTS, connect, open_stage
from moved_clock import MovedClock
from scripted_server import Reply
from simulator_process import start_simulator
from stage_parts import GOOD, HISTORY, POOL, WIRES, answer, ask, playing, rerank

from service.catalogue.bundle import Catalogue, open_bundle
from service.lvlm.contracts import Outcome
from service.lvlm.providers.base import Usage


@pytest.fixture(scope="module")
def catalogue(bundle_folder: Path) -> Catalogue:
    return open_bundle(bundle_folder).catalogue


@pytest.fixture(scope="module")
def simulator() -> Iterator[str]:
    with start_simulator() as url:
        yield url


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "plain"])
@pytest.mark.parametrize("form", ["label", "paper"])
@pytest.mark.parametrize("strategy", ["s1", "s3", "s4", "s5"])
async def test_the_simulator_orders_the_pool_for_every_strategy(
    catalogue: Catalogue, simulator: str, wire: str, stream: bool, form: str, strategy: str
) -> None:
    async with open_stage(catalogue, [connect(wire, simulator)], stream=stream) as opened:
        result = await opened.stage.rerank(ask(strategy, wire, form=form, explain=True))
    assert result.outcome is Outcome.OK
    assert result.answer.responder.reported_as == "simulator"
    assert result.bill.cost_usd == 0.0
    assert set(result.order) <= set(POOL)
    assert len(result.order) == len(set(result.order)) == (5 if form == "label" else len(POOL))
    assert result.answer.parsed.explanation is not None
    assert result.answer.parsed.explanation.startswith("Simulated answer:")
    assert result.bill.usage.input_tokens > 100
    assert not result.bill.estimated


@pytest.mark.parametrize("wire", WIRES)
async def test_labels_become_rows_and_usage_becomes_cost(catalogue: Catalogue, wire: str) -> None:
    result, opened = await rerank(catalogue, answer(wire, *GOOD), ask(provider=wire))
    assert result.order == (2, 0, 1, 3, 4)
    assert result.outcome is Outcome.OK
    assert result.answer.responder.reported_as == wire
    assert result.bill.usage == Usage(100, 7, cached_input_tokens=40, image_tokens=85)
    assert result.bill.cost_usd == pytest.approx((60 * 2.50 + 40 * 1.25 + 7 * 10.00) / 1e6)
    labels = {"provider": wire, "model": "gpt-4o"}
    assert opened.count("msr_lvlm_tokens_total", direction="input", **labels) == 100
    assert opened.count("msr_lvlm_tokens_total", direction="output", **labels) == 7
    assert opened.count("msr_lvlm_cost_usd_total", **labels) == pytest.approx(result.bill.cost_usd)
    assert opened.count("msr_lvlm_call_duration_seconds_count", outcome="ok", **labels) == 1
    assert opened.count("msr_lvlm_time_to_first_token_seconds_count", **labels) == 1
    assert opened.count("msr_lvlm_inflight") == 0


async def test_faults_in_an_answer_are_repaired_and_counted(catalogue: Catalogue) -> None:
    result, opened = await rerank(catalogue, answer("openai", "C", "C", "ZZ", "a"), ask())
    assert result.outcome is Outcome.REPAIRED
    assert result.order == (2, 0)
    assert (result.answer.parsed.invented, result.answer.parsed.duplicated, result.answer.parsed.missing) == (
        1,
        1,
        3,
    )
    for kind, times in (("invented", 1), ("duplicated", 1), ("missing", 3)):
        labels = {"provider": "openai", "model": "gpt-4o", "kind": kind}
        assert opened.count("msr_lvlm_repairs_total", **labels) == times


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize("wire", WIRES)
async def test_at_the_deadline_the_emitted_prefix_is_kept(
    catalogue: Catalogue, wire: str, clock: MovedClock
) -> None:
    reply = Reply(SCRIPTS[wire].stream(b'{"ranking": ["C", "A", "B', 30.0, b'"]}'))
    began = clock.now()
    result, opened = await rerank(catalogue, reply, ask(provider=wire, deadline=0.5))
    assert clock.now() - began < 0.6
    assert result.outcome is Outcome.PARTIAL
    assert result.order == (2, 0)
    assert result.bill.estimated
    assert result.bill.usage.input_tokens > 0
    assert result.bill.cost_usd is not None
    assert result.bill.cost_usd > 0
    assert opened.count("msr_fallbacks_total", reason="partial") == 1


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "plain"])
@pytest.mark.parametrize("wire", WIRES)
async def test_without_an_answer_in_time_the_candidate_order_stays(
    catalogue: Catalogue, wire: str, stream: bool, clock: MovedClock
) -> None:
    async with playing(catalogue, Reply([30.0]), wire=wire, stream=stream) as (opened, _):
        began = clock.now()
        result = await opened.stage.rerank(ask(provider=wire, deadline=0.3))
        seconds = clock.now() - began
    assert result.outcome is Outcome.FALLBACK_DEADLINE
    assert result.order == ()
    assert seconds <= 0.3
    assert result.bill.estimated
    assert opened.count("msr_fallbacks_total", reason="fallback_deadline") == 1


@pytest.mark.parametrize("wire", WIRES)
async def test_a_failing_provider_leaves_the_candidate_order(catalogue: Catalogue, wire: str) -> None:
    result, opened = await rerank(catalogue, SCRIPTS[wire].error(500, "api_error"), ask(provider=wire))
    assert result.outcome is Outcome.FALLBACK_PROVIDER
    assert result.order == ()
    assert result.bill.usage == Usage()
    assert not result.bill.estimated
    labels = {"provider": wire, "model": "gpt-4o"}
    assert opened.count("msr_lvlm_call_duration_seconds_count", outcome="server", **labels) == 1


@pytest.mark.parametrize("wire", WIRES)
async def test_a_truncated_stream_is_a_failure_whose_tokens_count(catalogue: Catalogue, wire: str) -> None:
    reply = Reply(SCRIPTS[wire].stream(b'{"ranking": ["C", "A"', reason=None))
    result, _ = await rerank(catalogue, reply, ask(provider=wire))
    assert result.outcome is Outcome.FALLBACK_PROVIDER
    assert result.order == ()
    assert result.bill.estimated
    assert result.bill.usage.output_tokens > 0


@pytest.mark.parametrize("text", [b"I would rather talk about the weather.", b'{"ranking": ["ZZ"]}', b""])
async def test_an_answer_with_nothing_usable_leaves_the_candidate_order(
    catalogue: Catalogue, text: bytes
) -> None:
    result, _ = await rerank(catalogue, Reply(SCRIPTS["openai"].stream(text)), ask())
    assert result.outcome is Outcome.FALLBACK_ANSWER
    assert result.order == ()
    assert result.bill.usage.output_tokens == 7


@pytest.mark.parametrize("wire", WIRES)
async def test_a_refusal_leaves_the_candidate_order(catalogue: Catalogue, wire: str) -> None:
    result, _ = await rerank(catalogue, Reply(SCRIPTS[wire].refusal()), ask(provider=wire))
    assert result.outcome is Outcome.FALLBACK_ANSWER


@pytest.mark.usefixtures("clock")
async def test_without_a_free_permit_in_time_the_candidate_order_stays(catalogue: Catalogue) -> None:
    async with playing(catalogue, Reply([5.0]), concurrency=1) as (opened, server):
        busy = asyncio.create_task(opened.stage.rerank(ask(deadline=1.0)))
        await asyncio.sleep(0.2)
        result = await opened.stage.rerank(ask(deadline=0.2, history=HISTORY[:-1]))
        await busy
        assert len(server.requests) == 1
    assert result.outcome is Outcome.FALLBACK_LIMIT
    assert result.bill.usage == Usage()


@pytest.mark.usefixtures("clock")
async def test_a_measurement_whose_client_goes_away_frees_its_permit(catalogue: Catalogue) -> None:
    async with playing(catalogue, Reply([30.0]), answer("openai", *GOOD), concurrency=1) as (opened, _):
        gone = asyncio.create_task(opened.stage.rerank(ask(cache="off")))
        await asyncio.sleep(0.3)
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        result = await opened.stage.rerank(ask())
    assert result.outcome is Outcome.OK
    labels = {"provider": "openai", "model": "gpt-4o"}
    assert opened.count("msr_lvlm_call_duration_seconds_count", outcome="cancelled", **labels) == 1
    assert opened.count("msr_lvlm_inflight") == 0


async def test_a_stage_without_candidates_is_a_fault_of_the_caller(catalogue: Catalogue) -> None:
    async with open_stage(catalogue, []) as opened:
        with pytest.raises(ValueError, match="needs candidates"):
            await opened.stage.rerank(ask(pool=()))
        with pytest.raises(ValueError, match="strategy"):
            await opened.stage.rerank(ask("none"))
