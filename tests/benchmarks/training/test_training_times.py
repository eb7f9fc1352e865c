from __future__ import annotations

import re

import pytest

from benchmarks.__main__ import main
from benchmarks.errors import BenchmarkError
from benchmarks.training import command, ways
from benchmarks.training.command import EXACT, build, check_same_losses, drawn
from benchmarks.training.ways import losses, usual

SMALL = drawn(users=60, items=40, width=8)


@pytest.mark.parametrize("name", EXACT)
def test_both_ways_take_the_same_steps(name: str) -> None:
    batch = [] if name == "sasrec" else ["training.batch=64"]
    network = build(name, SMALL, [*EXACT[name], *batch])
    mine, theirs = losses(network, SMALL)
    assert mine == pytest.approx(theirs, rel=1e-4)
    assert len(mine) == 3
    assert mine[0] != mine[2]


def test_a_way_with_another_loss_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    real = ways.bm3_loss
    monkeypatch.setattr(ways, "bm3_loss", lambda *parts: 1.01 * real(*parts))
    with pytest.raises(BenchmarkError, match="bm3: the losses of three steps are"):
        check_same_losses("bm3", build("bm3", SMALL, EXACT["bm3"]), SMALL)


def test_drawn_negatives_are_items_that_the_user_has_not_taken() -> None:
    network = build("freedom", SMALL, [])
    taken = set(map(tuple, network.graph.pairs.tolist()))  # type: ignore[union-attr, arg-type]
    for batch in usual(network, SMALL).batches():
        assert not taken & {(user, negative) for user, _, negative in batch.tolist()}


def test_the_page_says_how_many_times_as_fast_each_model_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "drawn", lambda **_: SMALL)
    monkeypatch.setattr(command, "LIMITS", dict.fromkeys(command.LIMITS, 0.0))
    assert main(["training", "--models", "sasrec,bm3", "--rounds", "1", "--steps", "1"]) == 0
    page = capsys.readouterr().out
    assert re.search(r"\| bm3 +\| +[0-9.]+ \| +[0-9.]+ \| +[0-9.]+ \| [0-9.]+–[0-9.]+ \|", page)
    assert "sasrec: times as fast as the usual way at least 0" in page
