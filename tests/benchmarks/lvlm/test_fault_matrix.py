from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from benchmarks.__main__ import main
from benchmarks.lab.service_client import Reply
from benchmarks.lvlm.faults import checks, matrix
from benchmarks.lvlm.faults.cells import EXPECTED, FaultCell, K
from benchmarks.lvlm.faults.checks import (
    Exchange,
    answer_problems,
    attempt_problems,
    refusal_problems,
    repair_problems,
)
from benchmarks.lvlm.faults.command import ESTIMATE_LIMIT, MOST_SHOWN, limit_checks, shown
from benchmarks.lvlm.faults.ledgers import (
    TOKEN_KINDS,
    CallTotals,
    LedgerComparison,
    refused_field,
    totals_problems,
)
from service.simulator.faults import NAMES

POOL = frozenset(f"I{row}" for row in range(30))


def cell(fault: str = "healthy", wire: str = "openai", mode: str = "stream") -> FaultCell:
    return FaultCell(fault, "s3", wire, mode)


def answered(
    outcome: str = "ok", repairs: tuple[int, int, int] = (0, 0, 0), attempts: int = 1, **body: Any
) -> Exchange:
    """An answer in which the LVLM placed all items but the missing ones."""
    sources = ["lvlm"] * (K - repairs[2]) + ["toy"] * repairs[2]
    items = [{"item_id": f"I{row}", "source": source} for row, source in enumerate(sources)]
    lvlm = dict(zip(("invented", "duplicated", "missing"), repairs, strict=True))
    served = "none" if outcome.startswith("fallback") else "s3"
    content = {"items": items, "outcome": outcome, "served": served, "lvlm": lvlm, **body}
    return Exchange(POOL, Reply(200, content, 0.1, attempts, None))


def row(*, reported: bool = True, **other: Any) -> dict[str, Any]:
    """A call in the simulator's ledger."""
    return {
        "usage_sent": reported,
        "billed_input_tokens": 800,
        "billed_output_tokens": 40,
        "cached_input_tokens": 0,
        "image_tokens": 85,
        "cost_usd": 0.0024,
        **other,
    }


REFUSED = row(reported=False, billed_input_tokens=0, billed_output_tokens=0, image_tokens=0, cost_usd=0.0)


def test_a_good_answer_has_nothing_wrong() -> None:
    assert list(answer_problems(cell(), [answered()])) == []
    failed = answered("fallback_provider", (0, 0, K))
    assert list(answer_problems(cell("500"), [failed])) == []
    assert list(answer_problems(cell("duplicate"), [answered("repaired", (0, 1, 1))])) == []


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (answered(attempts=2), "sent 2 times"),
        (Exchange(POOL - {"I3"}, answered().reply), "1 items are not of the pool, I3"),
        (answered(items=answered().reply.body["items"][:-1]), "9 different items"),
        (Exchange(POOL, Reply(503, {}, 0.1, 1, "503: starting")), "503: starting"),
        (answered("partial", (0, 0, 6)), "outcome partial"),
        (answered(served="none"), "served none with ok"),
        (answered(repairs=(1, 0, 1)), "repaired"),
        (answered(lvlm={"invented": 0, "duplicated": 0, "missing": 1}), "placed 10 items"),
    ],
)
def test_an_answer_that_is_wrong_is_reported(asked: Exchange, said: str) -> None:
    assert any(said in sentence for sentence in answer_problems(cell(), [answered(), asked]))


def test_every_fault_of_the_simulator_is_in_the_matrix() -> None:
    assert set(EXPECTED) == {"healthy", *NAMES}


def test_a_streamed_answer_must_not_take_back_what_was_sent() -> None:
    good = answered()
    events = (
        ("candidates", {"items": []}),
        *(("item", {**item, "rank": rank}) for rank, item in enumerate(good.reply.body["items"], start=1)),
    )
    for rank, item in enumerate(good.reply.body["items"], start=1):
        item["rank"] = rank
    streamed = dataclasses.replace(good.reply, events=(*events, ("answer", good.reply.body)))
    watched = dataclasses.replace(good, reply=streamed, with_events=True)
    assert list(answer_problems(cell(), [watched])) == []
    body = answered("fallback_provider", (0, 0, K)).reply.body
    for rank, item in enumerate(body["items"], start=1):
        item["rank"] = rank
    failed = dataclasses.replace(streamed, body=body, events=(*events, ("answer", body)))
    found = list(answer_problems(cell("500"), [dataclasses.replace(watched, reply=failed)]))
    assert found == ["10 items were told as the LVLM's, and the answer takes them back"]


def test_a_field_is_refused_once_where_the_fault_does_so_and_never_else() -> None:
    refused = {**REFUSED, "fault": "no_schema", "outcome": "rejected"}
    assert refused_field(refused)
    assert not refused_field({**refused, "outcome": "ok"})
    assert not refused_field({**refused, "fault": "400"})
    assert list(refusal_problems(cell("no_schema"), 1)) == list(refusal_problems(cell(), 0)) == []
    assert list(refusal_problems(cell("no_schema"), 2)) != []
    assert list(refusal_problems(cell("no_schema"), 0)) != []
    assert list(refusal_problems(cell(), 1)) != []


def test_what_is_wrong_in_many_cells_is_said_once_for_each_fault() -> None:
    few = [f"gpt-4o@arrow-s{number}-plain: outcome ok" for number in (1, 3)]
    assert shown(few) == few
    many = [f"gpt-4o@bom-s{at % 4 + 1}-stream: estimate {{'input': {at}}}" for at in range(MOST_SHOWN)]
    assert shown([*many, *few]) == ["bom: estimate {…} (40 times)", "arrow: outcome ok (2 times)"]


def test_half_a_label_that_was_placed_is_reported() -> None:
    assert list(answer_problems(cell("half_label"), [answered("repaired", (0, 0, 6))])) == []
    assert list(answer_problems(cell("half_label"), [answered("repaired", (0, 0, 5))])) != []


@pytest.mark.parametrize(
    ("fault", "wire", "asks", "calls", "retries", "right"),
    [
        ("healthy", "openai", 2, 2, 0, True),
        ("healthy", "openai", 2, 3, 1, False),
        ("400", "openai", 3, 3, 0, True),
        ("400", "openai", 3, 6, 3, False),
        ("500", "openai", 3, 9, 6, True),
        ("500", "openai", 3, 8, 5, False),
        ("500", "openai", 3, 9, 5, False),
        ("500", "anthropic", 1, 2, 1, True),
        ("500", "anthropic", 1, 1, 0, False),
        ("reset", "anthropic", 1, 3, 2, True),
        ("429", "openai", 5, 15, 10, True),
        ("429", "openai", 5, 10, 5, False),
        # A breaker may open: after a refused key, or after ten failures.
        ("401", "openai", 3, 1, 0, True),
        ("401", "openai", 3, 0, 0, False),
        ("401", "openai", 1, 2, 1, False),
        ("500", "openai", 5, 10, 7, True),
        ("500", "openai", 5, 9, 6, False),
        ("500", "openai", 5, 16, 11, False),
        ("500", "openai", 5, 12, 6, False),
    ],
)
def test_attempts_and_retries_are_those_of_the_fault(
    fault: str, wire: str, asks: int, calls: int, retries: int, right: bool
) -> None:
    assert (list(attempt_problems(cell(fault, wire), asks, [REFUSED] * calls, retries)) == []) == right


@pytest.mark.parametrize("kind", ["invented", "duplicated", "missing"])
def test_repairs_are_counted_as_answered(kind: str) -> None:
    asked = [answered("repaired", (1, 2, 3))]
    right = {"invented": 1.0, "duplicated": 2.0, "missing": 3.0}
    assert list(repair_problems(cell("unknown"), asked, right)) == []
    assert list(repair_problems(cell("unknown"), asked, {**right, kind: 0.0})) == [
        f"{right[kind]:.0f} {kind} answered, 0 counted"
    ]


def test_what_failed_or_was_refused_has_no_repairs() -> None:
    nothing = (0, 0, K)
    assert list(repair_problems(cell("500"), [answered("fallback_provider", nothing)], {})) == []
    assert list(repair_problems(cell("refusal"), [answered("fallback_answer", nothing)], {})) == []
    assert list(repair_problems(cell("empty"), [answered("fallback_answer", nothing)], {})) != []


REPORTED, ESTIMATED = CallTotals.of([row()]), CallTotals.of([row(reported=False)])
NO_ESTIMATE = dict.fromkeys(TOKEN_KINDS, 0.0)


@pytest.mark.parametrize(
    ("ours", "estimated", "rows", "said"),
    [
        (REPORTED, NO_ESTIMATE, [row()], None),
        (REPORTED, NO_ESTIMATE, [row(), REFUSED], "we count 1 calls, the simulator 2"),
        (REPORTED, ESTIMATED.tokens, [row()], "usage did not arrive for 0 calls"),
        (ESTIMATED, NO_ESTIMATE, [row(reported=False)], "usage did not arrive for 1 calls"),
        (ESTIMATED, ESTIMATED.tokens, [row(reported=False)], None),
        (REPORTED + ESTIMATED, ESTIMATED.tokens, [row(), row(reported=False)], None),
        # An estimate somewhere excuses nothing that was told.
        (
            REPORTED + ESTIMATED,
            ESTIMATED.tokens,
            [row(billed_output_tokens=41), row(reported=False)],
            "told tokens",
        ),
        (REPORTED, NO_ESTIMATE, [row(cached_input_tokens=1)], "told tokens"),
        (REPORTED, NO_ESTIMATE, [row(cost_usd=0.0025)], "US dollars"),
    ],
)
def test_books_are_equal_to_the_token_where_usage_arrived(
    ours: CallTotals, estimated: Mapping[str, float], rows: list[dict[str, Any]], said: str | None
) -> None:
    found = list(totals_problems(ours, estimated, rows))
    assert any(said in sentence for sentence in found) if said else found == []


def test_estimates_of_cut_calls_are_not_hidden_among_reported_usage() -> None:
    many = dataclasses.replace(
        REPORTED, tokens={kind: 100 * value for kind, value in REPORTED.tokens.items()}
    )
    wrong = dataclasses.replace(
        ESTIMATED, tokens={**ESTIMATED.tokens, "input": 1.05 * ESTIMATED.tokens["input"]}
    )
    side = LedgerComparison(many + wrong, many + ESTIMATED, True, (wrong, ESTIMATED))
    limits = limit_checks(0.0, {("openai", "stream"): side})
    assert [(what, limit) for what, limit, ratio in limits if limit.broken_by(ratio)] == [
        ("input and output", ESTIMATE_LIMIT)
    ]


def test_a_drip_goes_on_past_the_deadline() -> None:
    drip, stall = cell("drip"), cell("stall")
    assert 3 * float(drip.script["delay"]) < drip.deadline
    assert float(stall.script["delay"]) > stall.deadline


@pytest.mark.slow
def test_the_matrix_meets_its_faults_and_reports_what_is_wrong(
    bundle_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert {"401", "half_label"} < EXPECTED.keys()
    # As if half a label were to be placed: the answers of all its cells are wrong, and nothing else is.
    monkeypatch.setitem(checks.REPAIRS, "half_label", (0, 0, 5))  # type: ignore[arg-type]
    monkeypatch.setattr(matrix, "CALL_SECONDS", 1.0)  # neither fault goes on past its answer
    options = ["--bundle", str(bundle_folder), "--rounds", "1", "--faults", "half_label,401"]
    assert main(["faults", *options]) == 1
    page = capsys.readouterr().out
    assert "NO, 16 things are wrong" in page
    assert page.count("repaired {'invented': 0, 'duplicated': 0, 'missing': 6}") == 16
    assert "not met" not in page
