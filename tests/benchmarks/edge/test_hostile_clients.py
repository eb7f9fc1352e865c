"""Tests the benchmark of hostile clients: broken limits are told, and the clients do what they are for."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from benchmarks.__main__ import main
from benchmarks.edge.good_clients import NoneRequests
from benchmarks.edge.hostile import HostileResult, measure
from benchmarks.edge.hostile_clients import KINDS
from benchmarks.lab.servers import running_service
from benchmarks.lab.side_effects import MEGABYTE
from service.catalogue.bundle import open_bundle

QUICK = {"kept": NoneRequests((2.0, 3.0, 2.0), ())}
HELD = HostileResult(200 * MEGABYTE, QUICK, QUICK, {"silent": {"connections": 1}}, {}, {})


def result(**other: Any) -> HostileResult:
    return HostileResult(**{**vars(HELD), **other})


def test_a_service_that_keeps_the_limits_has_no_problem() -> None:
    assert HELD.problems == []


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (result(memory=301 * MEGABYTE), "301 MB above idle"),
        (result(beside={"kept": NoneRequests((13.0, 12.5, 2.0), ())}), "none is 10.5 ms slower"),
        (result(beside={"kept": NoneRequests((), ())}), "none is inf ms slower"),
        (result(beside={"kept": NoneRequests((2.0,), ("503", "503"))}), "not answered: 503 2"),
        (result(failed={"silent": "OSError()"}), "the hostile client of silent broke"),
        (result(done={"silent": {}}), "the hostile client of silent did nothing"),
    ],
)
def test_a_broken_limit_is_told(found: HostileResult, said: str) -> None:
    assert any(said in sentence for sentence in found.problems)


def test_an_unknown_kind_of_client_is_refused_by_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["hostile", "--kinds", "silent,polite"]) == 2
    assert "'polite'" in capsys.readouterr().err


@pytest.mark.slow
def test_every_hostile_client_does_something_and_good_ones_are_answered(bundle_folder: Path) -> None:
    items = [item.item_id for item in open_bundle(bundle_folder).catalogue.items]
    with running_service(bundle_folder, {}) as service:
        found = asyncio.run(measure(service, items, 5, list(KINDS)))
    assert not found.failed
    assert all(found.done[kind]["connections"] for kind in KINDS)
    assert not any(requests.refused for requests in found.beside.values())
    assert all(requests.milliseconds for requests in found.beside.values())
    assert {"head_size", "url_size", "framing"} <= found.connections.keys()
