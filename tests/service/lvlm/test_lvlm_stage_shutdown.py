"""When the service stops, a call breaks or a client leaves, no request hangs and no permit is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest
from controlled_provider import BILLED, Step, eventually, fails, ranks
from stage_parts import GOOD, GOOD_ROWS, ask_titles, asking, begin, calls_of, ended

from service.catalogue.bundle import Catalogue, open_bundle
from service.lvlm.contracts import Outcome
from service.lvlm.providers.base import FailureKind, Finish, FinishReason, TextDelta
from service.stores.memory import MemoryCache

pytestmark = pytest.mark.usefixtures("clock")


@pytest.fixture(scope="module")
def catalogue(bundle_folder: Path) -> Catalogue:
    return open_bundle(bundle_folder).catalogue


async def test_a_stop_lets_calls_end_and_their_answers_be_kept(catalogue: Catalogue) -> None:
    cache, gate = MemoryCache(10**6), asyncio.Event()
    async with asking(catalogue, [gate, *ranks(*GOOD)], cache=cache, closing_seconds=5) as (opened, provider):
        await opened.stage.rerank(ask_titles(deadline=0.0))
        await provider.called(1)
        asyncio.get_running_loop().call_later(0.1, gate.set)
    assert provider.cancelled == 0
    async with asking(catalogue, fails(FailureKind.SERVER), cache=cache) as (opened, provider):
        assert (await opened.stage.rerank(ask_titles())).cache == "hit"
        assert provider.calls == []


async def test_a_stop_ends_calls_that_take_too_long_and_answers_waiting_requests(
    catalogue: Catalogue,
) -> None:
    async with asking(catalogue, [asyncio.Event()], closing_seconds=0.1) as (opened, provider):
        waiting = begin(opened, ask_titles())
        await provider.called(1)
    assert provider.under_way == 0
    assert calls_of(opened) == 0
    assert (await asyncio.wait_for(waiting, 1)).outcome is Outcome.FALLBACK_PROVIDER
    labels = {"provider": "fake", "model": "gpt-4o", "direction": "input"}
    assert opened.count("msr_lvlm_estimated_tokens_total", **labels) > 0  # cancelled, and in the books


async def test_a_fault_of_our_own_inside_a_call_leaves_no_request_hanging(
    catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with asking(catalogue, ranks(*GOOD)) as (opened, _):
        with monkeypatch.context() as broken:
            broken.setattr("service.lvlm.ranking_call.read_answer", lambda *_, **__: 1 / 0)
            async with asyncio.timeout(2):
                results = await asyncio.gather(*(opened.stage.rerank(ask_titles()) for _ in range(3)))
        await ended(opened)
        assert {result.outcome for result in results} == {Outcome.FALLBACK_PROVIDER}
        assert "a call broke" in caplog.text
        assert (await opened.stage.rerank(ask_titles())).outcome is Outcome.OK


@pytest.mark.parametrize("concurrency", [1, 4])
async def test_whichever_request_leaves_at_whatever_moment_no_permit_and_no_call_is_lost(
    catalogue: Catalogue, concurrency: int
) -> None:
    """Requests of every kind are begun and abandoned after a growing number of turns of the event loop."""
    async with asking(catalogue, [0.001, *ranks(*GOOD)], concurrency=concurrency) as (opened, provider):
        for turns in range(40):
            changes = {"cache": ("use", "off", "refresh")[turns % 3], "deadline": (5.0, 0.005)[turns % 2]}
            tasks = [begin(opened, ask_titles(history=(turns, row), **changes)) for row in (30, 31, 31)]
            for _ in range(turns):
                await asyncio.sleep(0)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        await ended(opened)
        assert provider.under_way == 0
        assert opened.count("msr_lvlm_inflight") == 0
        state = opened.gateway.state("fake", "gpt-4o")
        assert state.concurrency.in_use == 0
        waiting = [begin(opened, ask_titles(history=(row, 32))) for row in range(concurrency)]
        results = await asyncio.gather(*waiting)
        assert {result.outcome for result in results} == {Outcome.OK}


async def test_a_watcher_sees_every_rank_once_and_in_order(catalogue: Catalogue) -> None:
    gates = [asyncio.Event() for _ in range(3)]
    pieces = ['{"ranking": ["C', '", "A", "B', '", "D", "E"]}']
    script: list[Step] = []
    for gate, piece in zip(gates, pieces, strict=True):
        script += [gate, TextDelta(piece)]
    seen: list[tuple[int, ...]] = []
    async with asking(catalogue, [*script, BILLED, Finish(FinishReason.STOP, "m")]) as (opened, _):
        waiting = asyncio.create_task(
            opened.stage.rerank(ask_titles(), lambda rows: seen.append(tuple(rows)))
        )
        gates[0].set()
        gates[1].set()
        await eventually(lambda: (2, 0) in seen)
        assert not waiting.done()
        gates[2].set()
        await waiting
    assert all(GOOD_ROWS[: len(rows)] == rows for rows in seen)
    assert [len(rows) for rows in seen] == sorted({len(rows) for rows in seen})


async def test_a_watcher_that_breaks_harms_no_request_but_its_own(catalogue: Catalogue) -> None:
    gate = asyncio.Event()
    script = [gate, *ranks(*GOOD)]

    def broken(rows: Sequence[int]) -> None:
        raise RuntimeError("no")

    async with asking(catalogue, script) as (opened, provider):
        watched = asyncio.create_task(opened.stage.rerank(ask_titles(), broken))
        await provider.called(1)
        other = begin(opened, ask_titles())
        await asyncio.sleep(0.01)
        gate.set()
        with pytest.raises(RuntimeError, match="no"):
            await watched
        assert (await other).order == GOOD_ROWS
