"""Items that a request was shown while its answer is streamed stay first in the final order."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from controlled_provider import ControlledProvider, Step, eventually, fails, ranks, says
from hypothesis import example, given, settings
from hypothesis import strategies as st
from lvlm_parts import open_stage
from parsed_answers import parse_labels, parse_titles
from stage_parts import asking

from service.catalogue.bundle import Catalogue, open_bundle
from service.lvlm.answer.entries import Candidates
from service.lvlm.answer.parser import certain_prefix, read_answer
from service.lvlm.answer.streamed_prefix import StreamedPrefix
from service.lvlm.calls.call_progress import CallProgress
from service.lvlm.contracts import Outcome, StageRequest, StageResult
from service.lvlm.prompt.prompts import label
from service.lvlm.provider_attempt import Attempt
from service.lvlm.providers.base import Call, FailureKind, FinishReason, Prompt, ProviderError, TextDelta
from service.strategies import STRATEGIES

NAMES = [f"Item number {number}" for number in range(30)]
LABELS = Candidates(NAMES, "label")
TITLES = Candidates(NAMES, "paper")

# --- a prefix of the text gives a prefix of the order ------------------------------------------------------

entries = st.one_of(
    st.sampled_from([*(label(position) for position in range(30)), "a", "[B]", "ZZ", "", "3", "0", "…"]),
    st.sampled_from([*NAMES[:4], "Item number 99", "C: Item number 2", "D - nice", "A, B", 'a "quoted" one']),
    st.integers(-1, 40),
    st.sampled_from(
        [None, True, 1.5, [], ["A"], {"label": "A"}, {"rank": 1, "label": "E"}, {"title": NAMES[5]}]
    ),
)
rankings = st.lists(entries, max_size=8)
keys = st.sampled_from(["ranking", "Ranking", "recommendations", "order", "explanation", "candidates"])
values = st.one_of(rankings, st.text(max_size=12), st.just({"ranking": ["F"]}), st.just("C > A > B"))
objects = st.lists(st.tuples(keys, values), max_size=4).map(
    lambda members: "{" + ", ".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in members) + "}"
)
loose = objects.map(lambda text: text.replace('"', "'"))
prose = st.sampled_from(
    [
        "",
        " ",
        "\n",
        "\ufeff",
        "```json\n",
        "\n```",
        "Sure: ",
        "or rather ",
        "A > B > C\n",
        "1. A\n2. B\n",
        '["D", "E"]',
    ]
)
tags = st.sampled_from(
    ["<think>", "</think>", "<reasoning>", "</reasoning>", "[THINK]", "[/THINK]", "<answer>"]
)
drafts = st.tuples(st.just("<think>"), objects, st.sampled_from(["</think>", "</think>\n", ""])).map("".join)
texts = st.lists(st.one_of(objects, objects, loose, drafts, prose, tags), max_size=5).map("".join)


@settings(max_examples=150)
@given(texts)
@example('{"ranking": ["3", "1", "A"]}')
@example('{"ranking": [{"label": "A"}, "C"]}')
@example('{"ranking": "A > B", "ranking": ["C"]}')
@example('{"ranking": [], "ranking": ["C"]}')
@example('{"ranking": ["ZZ"]} {"ranking": ["C"]}')
@example('{"ranking": ["A"]} no </think>{"ranking": ["B"]}')
@example('<think>x</think>{"ranking": ["A"]}</think>{"ranking": ["B"]}')
@example('<answer>{"ranking": ["A"]} </think>{"ranking": ["B"]}')
@example("{'ranking': ['Item number 1', 'it's', 'B']}")
def test_what_is_shown_of_any_beginning_of_a_text_is_the_beginning_of_its_order(text: str) -> None:
    whole_labels = parse_labels(text, NAMES, 10).order
    whole_titles = parse_titles(text, NAMES).order
    before: tuple[int, ...] = ()
    for cut in range(len(text) + 1):
        shown = certain_prefix(text[:cut], LABELS).order
        assert shown[: len(before)] == before
        assert shown == whole_labels[: len(shown)]
        assert shown == read_answer(text[:cut], LABELS, 10, finished=False).order[: len(shown)]
        before = shown
        titled = certain_prefix(text[:cut], TITLES).order
        assert titled == whole_titles[: len(titled)]


@given(st.permutations(range(30)), st.sampled_from(["", "```json\n", "<think>no</think>\n", "\ufeff "]))
def test_of_a_good_answer_every_label_is_shown_as_soon_as_it_is_there(order: list[int], before: str) -> None:
    text = before + json.dumps({"ranking": [label(position) for position in order]})
    for count, position in enumerate(order, start=1):
        end = text.index(f'"{label(position)}"') + len(f'"{label(position)}"')
        assert certain_prefix(text[:end], LABELS).order == tuple(order[:count])


@pytest.mark.parametrize(
    "text",
    [
        "",
        '["C", "A"',
        "C > A > B",
        "1. C\n2. A\n",
        'Sure! {"ranking": ["C", "A"]}',
        '<think>{"ranking": ["C", "A"]',
        'Hm. {"ranking": ["C"]} </think>',
        '{"draft": {"ranking": ["C", "A"]}',
        '{"order": ["C", "A"]}',
        '{"ranking": [3, 1, 2]}',
        '{"ranking": ["3", "1", "2"]}',
        '{"ranking": [{"label": "C"}, {"label": "A"}]}',
    ],
)
def test_nothing_is_shown_of_what_may_turn_out_otherwise(text: str) -> None:
    assert certain_prefix(text, LABELS).order == ()


def test_an_endless_answer_is_not_read_anew_for_each_of_its_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = 0

    def counted(text: str, candidates: Candidates) -> Any:
        nonlocal looks
        looks += 1
        return certain_prefix(text, candidates)

    monkeypatch.setattr("service.lvlm.answer.streamed_prefix.certain_prefix", counted)
    for piece in ('"A", ', "hm "):
        looks = 0
        attempt = Attempt("fake", Call(Prompt("", (), None, ""), "m", 100))
        progress = CallProgress(0.0)
        progress.begin(attempt)
        streamed = StreamedPrefix(range(30), LABELS, 10, lambda _: None)
        attempt.take(TextDelta('{"ranking": [' if piece.startswith('"') else "<think>"))
        for _ in range(65_536 // len(piece)):
            attempt.take(TextDelta(piece))
            streamed.update(progress)
        assert looks < 3_000


# --- through the stage ------------------------------------------------------------------------------------

BROKEN = ProviderError(FailureKind.CONNECTION, "gone")
BEGUN = '{"ranking": ["E", "D", '


@pytest.fixture(scope="module")
def catalogue(bundle_folder: Path) -> Catalogue:
    return open_bundle(bundle_folder).catalogue


def ask(**changes: Any) -> StageRequest:
    request = StageRequest(
        STRATEGIES["s3"],
        (20, 21),
        tuple(range(10, 20)),
        k=4,
        provider="fake",
        model="gpt-4o",
        modality="title",
        explain=True,
    )
    return replace(request, **changes)


@dataclass
class Watcher:
    """Records the rows that it is shown, and lets the provider's script go on after so many of them.

    Attributes:
        enough: number of rows after which the gate opens.
        gate: event that the provider's script waits for.
        rows: rows shown so far, best first.
    """

    enough: int = 2
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    rows: list[int] = field(default_factory=list)

    def placed(self, rows: Sequence[int]) -> None:
        assert list(rows[: len(self.rows)]) == self.rows
        self.rows = list(rows)
        if len(self.rows) >= self.enough:
            self.gate.set()


def begun(watcher: Watcher, *then: Step) -> list[Step]:
    """A script whose first two items are shown before its further steps are played."""
    return [TextDelta(BEGUN), watcher.gate, *then]


def check(result: StageResult, watcher: Watcher, outcome: Outcome, order: tuple[int, ...]) -> None:
    assert (result.outcome, result.order) == (outcome, order)
    assert result.order[: len(watcher.rows)] == tuple(watcher.rows)


async def test_what_an_attempt_said_before_it_failed_stays_before_the_answer_of_the_retry(
    catalogue: Catalogue,
) -> None:
    watcher = Watcher()
    good = ranks("A", "E", "B", "C", explanation="It is blue.")
    async with asking(catalogue, begun(watcher, BROKEN), good, attempts=2) as (opened, provider):
        result = await opened.stage.rerank(ask(), watcher.placed)
        assert len(provider.calls) == 2
        again = await opened.stage.rerank(ask())
    check(result, watcher, Outcome.REPAIRED, (14, 13, 10, 11, 12))
    assert watcher.rows == [14, 13]
    assert result.answer.parsed.missing == 0
    assert result.answer.parsed.explanation is None
    assert result.warnings == (
        "an answer broke off after its first 2 of 4 items had been shown, and another answer came: "
        "what had been shown stays first",
    )
    assert sum(opened.count("msr_fallbacks_total", reason=each.value) for each in Outcome) == 0
    # The cache keeps the answer itself, without the items of the failed attempt.
    assert (again.cache, again.outcome, again.order) == ("hit", Outcome.OK, (10, 14, 11, 12))
    assert again.answer.parsed.explanation == "It is blue."
    assert again.warnings == ()


async def test_a_retry_that_says_the_same_goes_on_where_the_first_attempt_broke_off(
    catalogue: Catalogue,
) -> None:
    watcher = Watcher()
    good = ranks("E", "D", "A", "B", explanation="It is blue.")
    async with asking(catalogue, begun(watcher, BROKEN), good, attempts=2) as (opened, _):
        result = await opened.stage.rerank(ask(), watcher.placed)
    check(result, watcher, Outcome.OK, (14, 13, 10, 11))
    assert (result.answer.parsed.explanation, result.warnings) == ("It is blue.", ())


async def test_a_request_that_does_not_watch_gets_the_good_answer_as_it_is(catalogue: Catalogue) -> None:
    watcher = Watcher()
    script = begun(watcher, BROKEN)
    async with asking(catalogue, script, ranks("A", "E", "B", "C"), attempts=2) as (opened, provider):
        watched = asyncio.create_task(opened.stage.rerank(ask(), watcher.placed))
        await provider.called(1)
        other = await opened.stage.rerank(ask())
        check(await watched, watcher, Outcome.REPAIRED, (14, 13, 10, 11, 12))
    assert (other.outcome, other.cache, other.order) == (Outcome.OK, "coalesced", (10, 14, 11, 12))
    assert other.warnings == ()


@pytest.mark.parametrize(
    ("then", "others"),
    [
        ([BROKEN], [fails(FailureKind.SERVER)]),
        ([BROKEN], [says("I cannot rank these.")]),
        ([BROKEN], [says("", FinishReason.REFUSAL)]),
        ([], [fails(FailureKind.AUTHENTICATION)]),
    ],
    ids=["failed", "prose", "refusal", "truncated"],
)
async def test_without_a_good_answer_what_was_shown_stays_and_the_answer_is_partial(
    catalogue: Catalogue, then: list[Step], others: list[Sequence[Step]]
) -> None:
    watcher = Watcher()
    async with asking(catalogue, begun(watcher, *then), *others, attempts=2) as (opened, _):
        result = await opened.stage.rerank(ask(), watcher.placed)
    check(result, watcher, Outcome.PARTIAL, (14, 13))
    assert (result.answer.parsed.missing, result.answer.parsed.explanation) == (2, None)
    assert result.warnings[-1].startswith(
        "an answer broke off after its first 2 of 4 items had been shown, and no"
    )
    counts = {each: opened.count("msr_fallbacks_total", reason=each.value) for each in Outcome}
    assert {each for each, count in counts.items() if count} == {Outcome.PARTIAL}


async def test_a_refusal_in_the_middle_does_not_take_back_what_was_shown(catalogue: Catalogue) -> None:
    watcher = Watcher()
    script = begun(watcher, *says('"A"]}', FinishReason.REFUSAL))
    async with asking(catalogue, script) as (opened, _):
        result = await opened.stage.rerank(ask(), watcher.placed)
    check(result, watcher, Outcome.PARTIAL, (14, 13, 10))


async def test_another_provider_that_answers_instead_comes_after_what_was_shown(catalogue: Catalogue) -> None:
    watcher = Watcher()
    first = ControlledProvider(begun(watcher, BROKEN))
    second = ControlledProvider(ranks("B", "A", "C", "D"), name="other")
    async with open_stage(catalogue, [first, second]) as opened:
        request = ask(alternatives=(("other", "gpt-4o-mini"),))
        result = await opened.stage.rerank(request, watcher.placed)
    check(result, watcher, Outcome.REPAIRED, (14, 13, 11, 10, 12))
    assert result.answer.responder.reported_as == "other"
    assert result.warnings[0] == "fake/gpt-4o could not answer: other/gpt-4o-mini did"
    assert result.warnings[1].startswith("an answer broke off")


@pytest.mark.usefixtures("clock")
async def test_at_the_deadline_of_a_second_attempt_both_are_kept(catalogue: Catalogue) -> None:
    watcher = Watcher()
    second = [TextDelta('{"ranking": ["A", "E", "B'), asyncio.Event()]
    async with asking(catalogue, begun(watcher, BROKEN), second, attempts=2) as (opened, provider):
        result = await opened.stage.rerank(ask(deadline=1.0), watcher.placed)
        assert len(provider.calls) == 2
    check(result, watcher, Outcome.PARTIAL, (14, 13, 10))
    assert opened.count("msr_fallbacks_total", reason="partial") == 1


@pytest.mark.usefixtures("clock")
async def test_at_the_deadline_of_one_attempt_nothing_is_said_of_breaking_off(catalogue: Catalogue) -> None:
    watcher = Watcher()
    async with asking(catalogue, begun(watcher, asyncio.Event())) as (opened, _):
        result = await opened.stage.rerank(ask(deadline=0.5), watcher.placed)
    check(result, watcher, Outcome.PARTIAL, (14, 13))
    assert result.warnings == ()


async def test_a_draft_that_is_thought_aloud_is_not_shown(catalogue: Catalogue) -> None:
    watcher = Watcher(enough=4)
    text = 'Maybe {"ranking": ["A", "B", "C", "D"]}? Rather {"ranking": ["E", "D", "C", "B"]}'
    thought = '<think>{"ranking": ["A"]}</think>{"ranking": ["E", "D", "C", "B"]}'
    for answer in (text, thought):
        watcher = Watcher(enough=4)
        script = [TextDelta(piece) for piece in answer]
        async with asking(catalogue, [*script, *says("")]) as (opened, _):
            result = await opened.stage.rerank(ask(), watcher.placed)
        check(result, watcher, Outcome.OK, (14, 13, 12, 11))


async def test_a_fault_of_our_own_after_items_were_shown_leaves_them_first(
    catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    watcher = Watcher()
    async with asking(catalogue, begun(watcher, *says('"A", "B"]}'))) as (opened, _):
        monkeypatch.setattr("service.lvlm.ranking_call.read_answer", lambda *_, **__: 1 / 0)
        result = await opened.stage.rerank(ask(), watcher.placed)
    check(result, watcher, Outcome.PARTIAL, (14, 13, 10, 11))


async def test_wherever_an_attempt_breaks_off_the_order_begins_with_what_was_shown(
    catalogue: Catalogue,
) -> None:
    first = '{"ranking": ["E", "ZZ", "D", "E", "A", "B"]}'
    successors = [
        ranks("A", "B", "C", "D"),
        says("[D] > [C] > [B] > [A]"),
        fails(FailureKind.SERVER),
        says("no"),
    ]
    for cut in range(0, len(first), 5):
        for successor in successors:
            watcher = Watcher(enough=99)
            pieces: list[Step] = [step for sign in first[:cut] for step in (TextDelta(sign), 0.0)]
            async with asking(catalogue, [*pieces, BROKEN], successor, attempts=2) as (opened, _):
                result = await opened.stage.rerank(ask(), watcher.placed)
                await eventually(lambda opened=opened: len(opened.stage._singleflight) == 0)  # type: ignore[misc]
            assert result.order[: len(watcher.rows)] == tuple(watcher.rows)
            assert bool(result.order) is (result.outcome in (Outcome.OK, Outcome.REPAIRED, Outcome.PARTIAL))
