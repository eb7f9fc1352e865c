"""Answers without a finish reason: complete by their text alone, or cut off."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from controlled_provider import BILLED, Step, ranks, says
from lvlm_parts import Opened
from parsed_answers import complete_answer
from stage_parts import asking

from service.catalogue.bundle import Catalogue, open_bundle
from service.lvlm.contracts import Form, Outcome, StageRequest
from service.lvlm.providers.base import FailureKind, FinishReason, ProviderError, TextDelta
from service.strategies import STRATEGIES

NAMES = [f"Item number {number}" for number in range(30)]
GOOD = '{"ranking": ["C", "A", "B"]}'
ROWS = (2, 0, 1)

COMPLETE = [
    GOOD,
    f" \r\n\t{GOOD}\n\n ",
    f"```json\n{GOOD}\n```",
    f"```json\n{GOOD}",
    f"<think>hm</think>\n{GOOD}",
    f"Sure!\n{GOOD}",
    f"{GOOD}\nThey are all bl",
    '{"ranking": ["C", "A", "B"], "explanation": "They are blue."}',
    '{"ranking": ["C", "ZZ", "C", "A", "B"]}',
    '{"ranking": ["C", "A", "B", "D", "E"]}',
    '["C", "A", "B"]',
    "{'ranking': ['C', 'A', 'B']}",
    "[C, A, B]",
    "[3, 1, 2]",
    "[C] > [A] > [B]",
    "C > A > B",
    "C > A > B > ",
    "1. C\n2. A\n3. B",
    "1. C - since it is\n2. A - since\n3. B - si",
    '[{"label": "C"}, {"label": "A"}, {"label": "B"}]',
]

CUT = [
    "",
    " ",
    '{"ranking": ["C", "A", "B"]',
    '{"ranking": ["C", "A", "B"',
    '{"ranking": ["C", "A", "B',
    '{"ranking": ["C", "A", "B"], "explanation": "They are',
    '{"ranking": ["C", "A", "B"], "explanation": "They are blue."',
    '{"ranking": ["C", "A"]}',
    '{"ranking": ["C", "ZZ", "A"]}',
    '{"ranking": ["C", "C", "A"]}',
    '["C", "A", "B"',
    '["C", "A"]',
    "[3, 1, 2",
    "[C, A, B",
    "[C] > [A]",
    "[C] > [A] > ",
    "1. C\n2. A\n",
    "1. C\n2. A\n3.",
    f"<think>{GOOD}",
    f"<think>{GOOD}</think>",
    f"Maybe {GOOD}? Not quite, for",
    "I cannot rank [A], [B] and [C].",
    '{"ranking": ["…", "…", "…"]}',
    '[{"label": "C"}, {"label": "A"}, {"label": "B"}',
]


@pytest.mark.parametrize("text", COMPLETE)
def test_a_text_with_every_label_asked_for_and_a_closed_end_is_complete(text: str) -> None:
    assert complete_answer(text, NAMES, 3, "label")


@pytest.mark.parametrize("text", CUT)
def test_a_text_that_lacks_a_label_or_its_end_is_cut(text: str) -> None:
    assert not complete_answer(text, NAMES, 3, "label")


def test_in_the_papers_form_every_title_is_asked_for() -> None:
    whole = json.dumps({"explanation": "x", "recommendations": NAMES[::-1]})
    assert complete_answer(whole, NAMES, len(NAMES), "paper")
    assert not complete_answer(whole[:-1], NAMES, len(NAMES), "paper")
    less = json.dumps({"explanation": "x", "recommendations": NAMES[:0:-1]})
    assert not complete_answer(less, NAMES, len(NAMES), "paper")


def test_no_beginning_of_an_answer_is_complete() -> None:
    whole = json.dumps({"ranking": ["C", "A", "B"], "explanation": 'They {are} ["C"] blue}.'})
    forms: list[Form] = ["label", "paper"]
    for cut in range(len(whole)):
        assert not any(complete_answer(whole[:cut], NAMES, 3, form) for form in forms)


# --- through the stage ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def catalogue(bundle_folder: Path) -> Catalogue:
    return open_bundle(bundle_folder).catalogue


def ask(**changes: Any) -> StageRequest:
    request = StageRequest(
        STRATEGIES["s3"], (20, 21), tuple(range(10)), 3, provider="fake", model="gpt-4o", modality="title"
    )
    return replace(request, **changes)


def calls_that_ended(opened: Opened, outcome: str) -> float:
    labels = {"provider": "fake", "model": "gpt-4o", "outcome": outcome}
    return opened.count("msr_lvlm_call_duration_seconds_count", **labels)


BROKEN = ProviderError(FailureKind.CONNECTION, "gone")


@pytest.mark.parametrize("end", [[], [BILLED], [BROKEN], [BILLED, BROKEN]], ids=str)
@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        (GOOD, Outcome.OK),
        (f"\n{GOOD}\n", Outcome.OK),
        ("C > A > B", Outcome.REPAIRED),
        ("1. C\n2. A\n3. B", Outcome.REPAIRED),
    ],
)
async def test_a_complete_ranking_without_a_finish_reason_is_used_kept_and_paid_once(
    catalogue: Catalogue, text: str, outcome: Outcome, end: list[Step]
) -> None:
    script = [TextDelta(text[:9]), TextDelta(text[9:]), *end]
    async with asking(catalogue, script, attempts=3) as (opened, provider):
        first = await opened.stage.rerank(ask())
        second = await opened.stage.rerank(ask())
        assert len(provider.calls) == 1
    assert (first.outcome, first.order, first.cache) == (outcome, ROWS, "miss")
    assert (second.outcome, second.order, second.cache) == (outcome, ROWS, "hit")
    assert calls_that_ended(opened, "ok") == 1
    assert opened.count("msr_lvlm_tokens_total", provider="fake", model="gpt-4o", direction="output") == (
        first.bill.usage.output_tokens
    )


@pytest.mark.parametrize("text", ['{"ranking": ["C", "A", "B"]', '{"ranking": ["C", "A"]}', "C > A"])
@pytest.mark.parametrize("end", [[], [BROKEN]], ids=str)
async def test_a_cut_ranking_without_a_finish_reason_is_a_failure(
    catalogue: Catalogue, text: str, end: list[Step]
) -> None:
    async with asking(catalogue, [TextDelta(text), *end], ranks("B", "A", "C")) as (opened, provider):
        first = await opened.stage.rerank(ask())
        second = await opened.stage.rerank(ask())
        assert len(provider.calls) == 2
    assert (first.outcome, first.order) == (Outcome.FALLBACK_PROVIDER, ())
    assert (second.outcome, second.cache) == (Outcome.OK, "miss")


@pytest.mark.usefixtures("clock")
async def test_a_complete_ranking_at_the_deadline_is_not_partial(catalogue: Catalogue) -> None:
    async with asking(catalogue, [TextDelta(GOOD), asyncio.Event()]) as (opened, _):
        result = await opened.stage.rerank(ask(deadline=0.2))
    assert (result.outcome, result.order) == (Outcome.OK, ROWS)
    assert opened.count("msr_fallbacks_total", reason="partial") == 0


@pytest.mark.usefixtures("clock")
async def test_a_ranking_that_is_not_closed_at_the_deadline_is_partial(catalogue: Catalogue) -> None:
    async with asking(catalogue, [TextDelta(GOOD[:-1]), asyncio.Event()]) as (opened, _):
        result = await opened.stage.rerank(ask(deadline=0.2))
    assert (result.outcome, result.order) == (Outcome.PARTIAL, ROWS)
    assert opened.count("msr_fallbacks_total", reason="partial") == 1


@pytest.mark.usefixtures("clock")
async def test_a_label_that_may_go_on_at_the_deadline_is_dropped(catalogue: Catalogue) -> None:
    script = [TextDelta("C > B > A"), asyncio.Event()]
    async with asking(catalogue, script) as (opened, _):
        pool = tuple(range(30))  # AA to AD are labels
        result = await opened.stage.rerank(ask(deadline=0.2, pool=pool, k=5))
    assert (result.outcome, result.order) == (Outcome.PARTIAL, (2, 1))


async def test_another_form_is_counted_as_a_repair(catalogue: Catalogue) -> None:
    async with asking(catalogue, says("C > A > B")) as (opened, _):
        result = await opened.stage.rerank(ask())
        hit = await opened.stage.rerank(ask())
    assert (result.outcome, hit.outcome, hit.cache) == (Outcome.REPAIRED, Outcome.REPAIRED, "hit")
    labels = {"provider": "fake", "model": "gpt-4o"}
    assert opened.count("msr_lvlm_repairs_total", kind="form", **labels) == 1


async def test_a_refusal_stays_one_whatever_its_text(catalogue: Catalogue) -> None:
    async with asking(catalogue, says(GOOD, FinishReason.REFUSAL)) as (opened, _):
        assert (await opened.stage.rerank(ask())).outcome is Outcome.FALLBACK_ANSWER
