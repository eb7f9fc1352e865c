from __future__ import annotations

import argparse
import re
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.errors import BenchmarkError
from benchmarks.lab.measured_run import MeasuredRun
from benchmarks.training import command, memory, ways
from benchmarks.training.cases import build, drawn
from benchmarks.training.command import EXACT, check_same_losses
from benchmarks.training.memory import peak_bytes
from benchmarks.training.ways import losses, usual

SMALL = drawn(users=60, items=40, width=8)


@pytest.mark.parametrize("name", EXACT)
def test_both_ways_take_the_same_steps(name: str) -> None:
    batch = [] if name == "sasrec" else ["training.batch=64"]
    network = build(name, SMALL, [*EXACT[name], *batch])
    mine, theirs = losses(network, SMALL)
    assert mine == pytest.approx(theirs, rel=1e-4)
    assert len(mine) == 4
    assert mine[2] != mine[3]


def test_a_way_with_another_loss_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    real = ways.bm3_loss
    monkeypatch.setattr(ways, "bm3_loss", lambda *parts: 1.01 * real(*parts))
    with pytest.raises(BenchmarkError, match="bm3: the losses around three steps are"):
        check_same_losses("bm3", build("bm3", SMALL, EXACT["bm3"]), SMALL)


def test_drawn_negatives_are_items_that_the_user_has_not_taken() -> None:
    network = build("freedom", SMALL, [])
    taken = set(map(tuple, network.graph.pairs.tolist()))  # type: ignore[union-attr, arg-type]
    for batch in usual(network, SMALL).batches():
        assert not taken & {(user, negative) for user, _, negative in batch.tolist()}


def page_of(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], peak: float
) -> tuple[int, str]:
    monkeypatch.setattr(command, "peak_bytes", lambda *_: peak)
    monkeypatch.setattr(command, "LIMITS", dict.fromkeys(command.LIMITS, 0.0))
    small = ["--users", "60", "--items", "40", "--rounds", "1", "--steps", "1"]
    return main(["training", "--models", "sasrec,bm3", *small]), capsys.readouterr().out


def test_the_page_says_how_many_times_as_fast_each_model_is_and_what_memory_it_takes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    status, page = page_of(monkeypatch, capsys, peak=0.5e9)
    assert status == 0
    assert re.search(r"\| bm3 +\| +[0-9.]+ \| +[0-9.]+ \| +[0-9.]+ \| [0-9.]+–[0-9.]+ \| +0.50 \|", page)
    assert "sasrec: times as fast as the usual way at least 0" in page
    assert "60 users, 40 items" in page


def test_too_much_memory_fails_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    status, page = page_of(monkeypatch, capsys, peak=4.1e9)
    assert status == 1
    assert "bm3: memory, as a share of 4 GB at most 1: 1.025, not met" in page


def test_memory_is_that_of_a_process_that_trains() -> None:
    assert 5e7 < peak_bytes("bm3", argparse.Namespace(data=None, users=60, items=40, steps=1)) < 2e9


@pytest.mark.parametrize(
    ("errors", "told"), [("Traceback\nno room\n", "no room"), ("", "it ended with status -9")]
)
def test_a_process_that_failed_has_no_memory_to_tell(
    errors: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "run_measured", lambda _: MeasuredRun(-9, "", errors, 0.0, 0.0, 0))
    with pytest.raises(BenchmarkError, match=f"^bm3: its memory could not be measured: {told}$"):
        peak_bytes("bm3", argparse.Namespace(data=Path("data"), steps=1))


@pytest.mark.parametrize("name", ["sasrec", "mmgcn"])
def test_the_measured_process_trains_and_computes_all_vectors(name: str) -> None:
    assert memory.main([name, "--users", "60", "--items", "40", "--steps", "2"]) == 0
