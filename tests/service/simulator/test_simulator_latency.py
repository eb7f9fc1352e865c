"""Latency profiles, and the schedule by which tokens are sent."""

from __future__ import annotations

import asyncio
import tomllib
from pathlib import Path

import pytest
from moved_clock import MovedClock

from models.contracts.paper import seconds_of, table2
from service.simulator.latency_profiles import PAPER_TABLE, Fast, Instant, Paper, Schedule, Timing


def test_instant_never_waits() -> None:
    assert Instant().timing("m", "s3", 100).total(100) == 0


def test_fast_is_the_time_to_the_first_token_and_a_steady_rate() -> None:
    assert Fast(0.5, 100).timing("m", None, 101).total(101) == pytest.approx(1.5)


@pytest.mark.parametrize(
    ("model", "strategy", "seconds"),
    [
        ("gpt-4o", "s3", 24.49),
        ("gpt-4-vision-preview", "s4", 29.8392),
        ("claude-3-opus-20240229", "s1", 24.9818),
        ("unheard-of", "s1", 24.49),
    ],
)
@pytest.mark.parametrize("tokens", [1, 2, 40, 700])
def test_paper_takes_the_tables_seconds_however_long_the_answer(
    model: str, strategy: str, seconds: float, tokens: int
) -> None:
    assert Paper().timing(model, strategy, tokens).total(tokens) == pytest.approx(seconds)
    assert Paper(speed_up=10).timing(model, strategy, tokens).total(tokens) == pytest.approx(seconds / 10)


def test_paper_times_what_the_table_does_not_cover_by_its_tokens() -> None:
    short, long = (Paper().timing("gpt-4o", None, tokens).total(tokens) for tokens in (10, 100))
    assert long == pytest.approx(10 * short)


def test_every_row_of_the_papers_table_says_where_its_figure_comes_from() -> None:
    table = tomllib.loads(PAPER_TABLE.read_text("utf-8"))
    rows = [*table["rows"], *table["references"]]
    assert all(row["source"].startswith("Table 2" if row["known"] else "derived") for row in rows)


def test_the_simulator_and_the_papers_table_hold_the_same_seconds() -> None:
    table = tomllib.loads(PAPER_TABLE.read_text("utf-8"))
    ours = {(row["model"], row["strategy"]): row["seconds"] for row in table["rows"] if row["known"]}
    timed = [row for row in table2() if row.strategy not in (None, "S2")]
    assert ours == {(row.model, str(row.strategy).lower()): row.inference for row in timed}
    assert len(ours) == 12
    for row in table["references"]:
        assert row["seconds"] == seconds_of(row["model"]).inference


@pytest.mark.parametrize("flaw", ["first_token_share", 'strategy = "*"', "seconds = 24.49", '"GPT-4o" ='])
def test_a_table_with_something_missing_is_refused_by_name(tmp_path: Path, flaw: str) -> None:
    table = tmp_path / "broken.toml"
    lines = PAPER_TABLE.read_text("utf-8").splitlines()
    table.write_text("\n".join("" if line.startswith(flaw) else line for line in lines), "utf-8")
    with pytest.raises(ValueError, match=r"broken\.toml"):
        Paper(table=table)


@pytest.mark.usefixtures("clock")
async def test_a_late_wake_up_gives_all_tokens_that_are_due() -> None:
    started = asyncio.get_running_loop().time() - 10.5
    batches = [list(batch) async for batch in Schedule(Timing(0.0, 1.0), started).paced(list("abcdefghijkl"))]
    assert "".join(batches[0]) == "abcdefghijk"
    assert batches[1:] == [["l"]]


async def test_tokens_are_given_when_they_are_due(clock: MovedClock) -> None:
    started = clock.now()
    given = [
        (token, clock.now() - started)
        async for batch in Schedule(Timing(0.05, 0.02), started).paced("abc")
        for token in batch
    ]
    assert [token for token, _ in given] == ["a", "b", "c"]
    assert [seconds for _, seconds in given] == pytest.approx([0.05, 0.07, 0.09])
