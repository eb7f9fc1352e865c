from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.__main__ import main
from benchmarks.lab.rounds import Limit
from benchmarks.speed import graph_candidates
from benchmarks.speed.opened_models import graph_model

SMALL = ["graph", "--items", "60", "-k", "5", "--users", "3", "--rounds", "1"]


def test_the_page_has_both_ways_and_says_whether_a_graph_backbone_is_as_fast(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(graph_candidates, "LIMIT", Limit("share of SASRec's time", least=0.0))
    assert main(SMALL) == 0
    page = capsys.readouterr().out
    rows = [line.split("|")[1:3] for line in page.splitlines() if line.startswith("| ")][2:]
    assert [name.strip() for name, _ in rows] == [graph_candidates.SASREC, graph_candidates.GRAPH]
    assert all(float(milliseconds) > 0 for _, milliseconds in rows)
    assert "share of SASRec's time at least 0" in page


def test_a_graph_backbone_that_is_too_slow_fails_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph_candidates, "LIMIT", Limit("share of SASRec's time", most=0.0))
    assert main(SMALL) == 1


def test_a_measured_graph_backbone_ranks_by_the_users_own_vector(tmp_path: Path) -> None:
    items, users = np.eye(3, dtype=np.float32), np.array([[1, 3, 2], [2, 1, 3]], dtype=np.float32)
    model = graph_model(items, users, tmp_path)
    assert model.top(0, [0], 2, [0])[0] == [1, 2]
    assert model.top(1, [0], 2, ())[0] == [2, 0]
