from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from benchmarks.lvlm.crowd import LATE, MEMORY, report, verdicts
from benchmarks.lvlm.crowd_load import Crowd, CrowdResult, measure
from service.catalogue.bundle import open_bundle

CLIENTS = 50
GOOD = CrowdResult(slowest=6.0, latency=5.0, calls=CLIENTS, peak=CLIENTS, megabytes=120.0, ordered=CLIENTS)
IN_TIME = Crowd("at once", CLIENTS, LATE)
IN_FLIGHT = Crowd("in flight", CLIENTS, MEMORY, together=True)
EQUAL = Crowd("equal", CLIENTS, same=True)
ONE = dataclasses.replace(GOOD, calls=1, peak=1)


def met(crowd: Crowd, *rounds: CrowdResult) -> list[bool]:
    said = verdicts(crowd, rounds)
    for verdict in said:
        assert verdict.sentence.endswith(", met" if verdict.met else "not met")
    return [verdict.met for verdict in said]


@pytest.mark.parametrize(("crowd", "good"), [(IN_TIME, GOOD), (IN_FLIGHT, GOOD), (EQUAL, ONE)])
def test_a_scene_is_met_when_every_round_of_it_is(crowd: Crowd, good: CrowdResult) -> None:
    assert all(met(crowd, good, good, good))
    fewer = dataclasses.replace(good, ordered=CLIENTS - 1)
    assert met(crowd, good, good, fewer)[0] is False
    for calls in (good.calls - 1, good.calls + 1):
        assert met(crowd, good, good, dataclasses.replace(good, calls=calls))[1] is False


def test_calls_that_were_never_in_flight_together_say_nothing_about_memory() -> None:
    early = dataclasses.replace(GOOD, peak=CLIENTS - 1)
    assert met(IN_FLIGHT, GOOD, early) == [True, True, False, True]
    assert all(met(IN_TIME, GOOD, early))


def test_medians_over_rounds_are_held_to_the_limits() -> None:
    late, large = dataclasses.replace(GOOD, slowest=7.6), dataclasses.replace(GOOD, megabytes=300.5)
    assert met(IN_TIME, GOOD, late, late)[-1] is False
    assert met(IN_TIME, GOOD, GOOD, late)[-1] is True
    assert met(IN_FLIGHT, GOOD, large, large)[-1] is False


@pytest.mark.parametrize(("rounds", "code"), [([GOOD, GOOD], 0), ([GOOD, ONE], 1)])
def test_the_exit_code_says_whether_everything_was_met(
    rounds: Sequence[CrowdResult], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = argparse.Namespace(rounds=2, markdown=None, command_line="x")
    assert report([IN_TIME], {IN_TIME.name: rounds}, arguments) == code
    assert ("not met" in capsys.readouterr().out) == bool(code)


@pytest.mark.clock
@pytest.mark.slow
def test_a_measured_crowd_reports_calls_their_peak_and_ordered_answers(bundle_folder: Path) -> None:
    items = [item.item_id for item in open_bundle(bundle_folder).catalogue.items]
    body = {"k": 5, "deadline_ms": 60_000}
    bodies = [json.dumps({"history": items[at : at + 3], **body}).encode() for at in range(3)]
    crowd = Crowd("three", 3, MEMORY, together=True, first_token=2.0)
    seen = measure(bundle_folder, crowd, bodies)
    assert (seen.ordered, seen.calls, seen.peak) == (3, 3, 3)
    assert 2.0 < seen.latency < seen.slowest
    same = measure(bundle_folder, dataclasses.replace(crowd, same=True), bodies[:1] * 3)
    assert (same.ordered, same.calls, same.peak) == (3, 1, 1)
