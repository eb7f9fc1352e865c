"""Tests of the benchmark of kept events: killed processes of a real service, in short, and a full disk."""

import random
from collections.abc import Sequence

import pytest

from benchmarks.edge.events_kept import KINDS, full_disk, kill_rounds
from benchmarks.edge.kill_rounds import KillRound
from service.catalogue.bundle import open_bundle
from service.settings import DEMO_BUNDLE


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_no_acknowledged_event_is_lost_when_a_process_is_killed(kind: str) -> None:
    items = open_bundle(DEMO_BUNDLE).catalogue.items
    for result in kill_rounds(kind, DEMO_BUNDLE, items, rounds=2, seed=1):
        assert result.faults == []
        assert result.reads > 10
        assert result.events > 100


@pytest.mark.slow
def test_a_full_disk_refuses_batches_and_loses_none() -> None:
    found = full_disk(DEMO_BUNDLE, open_bundle(DEMO_BUNDLE).catalogue.items)
    if found is None:
        pytest.skip("only root may mount a file system")
    assert found.faults == []
    assert min(found.stored, found.refused, found.later) > 0


def test_a_history_that_lacks_an_event_or_has_one_twice_is_a_fault() -> None:
    def faults(found: Sequence[str]) -> list[str]:
        trial = KillRound(0, ["a", "b", "c"], str, lambda: None, random.Random(1))
        trial._compare(found, 4, "u")
        return trial._result.faults

    assert faults("abca") == []
    for wrong in ("abc", "abcaa", "abac", ""):
        assert len(faults(wrong)) == 1
