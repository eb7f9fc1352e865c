"""Caption calls that a request begins are counted in its answer, the ledger and the budgets."""

from __future__ import annotations

import asyncio
import time
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from controlled_provider import BILLED, ControlledProvider, eventually, ranks, says
from lvlm_parts import Opened, open_stage
from simulator_process import start_simulator
from starlette.testclient import TestClient

from service.catalogue.bundle import Catalogue, open_bundle
from service.lvlm.captions import caption_call
from service.lvlm.contracts import Outcome, StageRequest
from service.lvlm.cost.budgets_and_quotas import SAFETY_FACTOR, Budget
from service.lvlm.cost.prices import Prices
from service.lvlm.providers.base import Call, Image
from service.settings import Settings
from service.strategies import STRATEGIES
from service.wiring.application import create_app

GPT = "gpt-4o"
CENTS = Prices.read().cost(GPT, BILLED) or 0.0
HISTORY = (0, 1, 2, 3, 4, 6, 7, 8, 9, 10)


@pytest.fixture(scope="module")
def catalogue(bundle_folder: Path) -> Catalogue:
    """Nothing is described; every sixth row from 5 has no picture."""
    return replace(open_bundle(bundle_folder).catalogue, captions={})


def ask(strategy: str = "s5", **changes: Any) -> StageRequest:
    request = StageRequest(
        STRATEGIES[strategy], HISTORY, pool=(20, 21, 22), k=3, provider="fake", model=GPT, modality="title"
    )
    return replace(request, **changes)


class Both(ControlledProvider):
    """Ranks, and describes pictures."""

    def __init__(self) -> None:
        super().__init__(ranks("A", "B", "C"))
        self.describing = ControlledProvider(says("A mug."))

    def stream(self, call: Call) -> Any:
        return self.describing.stream(call) if _describes(call) else super().stream(call)


def _describes(call: Call) -> bool:
    return call.context["strategy"] == "caption"


def filling(
    catalogue: Catalogue, provider: ControlledProvider, **options: Any
) -> AbstractAsyncContextManager[Opened]:
    return open_stage(catalogue, [provider], **{"fill": True, **options})


async def described() -> None:
    """Wait until all captions that were begun are done with."""
    await eventually(lambda: not any("Captions._make" in repr(task) for task in asyncio.all_tasks()))


@pytest.mark.parametrize("strategy", ["s4", "s5"])
async def test_an_answer_counts_the_caption_calls_that_it_began(catalogue: Catalogue, strategy: str) -> None:
    provider = Both()
    async with filling(catalogue, provider) as opened:
        first = await opened.stage.rerank(ask(strategy))
        assert (first.outcome, first.caption_calls, first.shown.captions) == (Outcome.OK, len(HISTORY), 0)
        await described()
        second = await opened.stage.rerank(ask(strategy))
        assert (second.caption_calls, second.shown.captions) == (0, len(HISTORY))
        assert len(provider.describing.calls) == len(HISTORY)


async def test_what_is_under_way_is_begun_by_one_request_alone(catalogue: Catalogue) -> None:
    provider = Both()
    async with filling(catalogue, provider) as opened:
        wider = ask(history=(*HISTORY[1:], 12))
        results = await asyncio.gather(opened.stage.rerank(ask()), opened.stage.rerank(wider))
        assert sorted(result.caption_calls for result in results) == [1, len(HISTORY)]


@pytest.mark.parametrize(
    ("strategy", "fill", "history"),
    [("s1", True, HISTORY), ("s3", True, HISTORY), ("s5", False, HISTORY), ("s5", True, (5, 11))],
    ids=["s1", "s3", "switched off", "no pictures"],
)
async def test_nothing_is_begun_otherwise(
    catalogue: Catalogue, strategy: str, fill: bool, history: tuple[int, ...]
) -> None:
    provider = Both()
    async with filling(catalogue, provider, fill=fill) as opened:
        assert (await opened.stage.rerank(ask(strategy, history=history))).caption_calls == 0
        await opened.captions.close()
        assert provider.describing.calls == []


async def test_caption_calls_are_in_the_ledger_and_not_in_the_answers_bill(catalogue: Catalogue) -> None:
    provider = Both()
    async with filling(catalogue, provider) as opened:
        result = await opened.stage.rerank(ask())
        assert result.bill.cost_usd == pytest.approx(CENTS)
        await described()
        labels = {"provider": "fake", "model": GPT}
        spent = opened.count("msr_lvlm_cost_usd_total", **labels)
        assert spent == pytest.approx((1 + len(HISTORY)) * CENTS)
        tokens = opened.count("msr_lvlm_tokens_total", direction="output", **labels)
        assert tokens == (1 + len(HISTORY)) * BILLED.output_tokens


async def test_caption_calls_stop_at_the_budget(catalogue: Catalogue) -> None:
    provider = Both()
    picture = caption_call(Image(b"", "image/jpeg", 512, 512), GPT, 500)
    async with filling(catalogue, provider) as opened:
        each = opened.gateway.expected("fake", picture).cost_usd or 0.0
    provider, budget = Both(), CENTS + 1.1 * SAFETY_FACTOR * each
    async with filling(catalogue, provider, budget=Budget(usd_per_day=budget)) as opened:
        result = await opened.stage.rerank(ask())
        await described()
        assert result.caption_calls == len(HISTORY)
        assert 0 < len(provider.describing.calls) < len(HISTORY)
        assert opened.count("msr_lvlm_cost_usd_total", provider="fake", model=GPT) <= budget


async def test_no_caption_is_asked_of_a_model_that_the_budget_cannot_count(catalogue: Catalogue) -> None:
    provider = Both()
    async with filling(catalogue, provider, budget=Budget(usd_per_day=1.0)) as opened:
        result = await opened.stage.rerank(ask(model="no-such-model"))
        assert result.outcome is Outcome.FALLBACK_BUDGET
        await described()
        assert provider.describing.calls == provider.calls == []


def test_the_service_counts_them_and_a_setting_switches_them_off(bundle_folder: Path) -> None:
    body = {"history": ["I030", "I031", "I032"], "k": 3}  # which no captioner of the bundle has described
    with start_simulator() as simulator:

        def asked() -> int:
            calls = httpx.get(f"{simulator}/ledger", trust_env=False).json()
            return sum(call["strategy"] == "caption" for call in calls)

        for fill, begun in ((False, 0), (True, 3)):
            settings = Settings(bundle=bundle_folder, simulator_url=simulator, caption_fill=fill)
            with TestClient(create_app(settings), "http://127.0.0.1") as client:
                lvlm = client.post("/recommend?strategy=s5", json=body).json()["lvlm"]
                assert (lvlm["caption_calls"], lvlm["simulated"]) == (begun, True)
                end = time.monotonic() + 20
                while asked() < begun and time.monotonic() < end:
                    time.sleep(0.02)
            assert asked() == begun
