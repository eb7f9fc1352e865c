"""Requests of benchmarks to backbones that have a vector for each user, and to those that read histories."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bundles import write_graph_backbone
from fake_service import FakeService
from tiny_bundle import ITEMS, USERS

from benchmarks.__main__ import main
from benchmarks.paper.records import read_records
from service.catalogue.bundle import open_bundle


@pytest.fixture
def service(tiny_bundle: Path) -> Iterator[FakeService]:
    """It runs until the test ends, on a bundle with a graph backbone beside the toy one."""
    version = open_bundle(tiny_bundle).catalogue.version
    write_graph_backbone(tiny_bundle, "graph", version, items=ITEMS, users=USERS)
    with FakeService(open_bundle(tiny_bundle)).running() as fake:
        yield fake


def replay(service: FakeService, out: Path, *options: str) -> int:
    folder = str(service.bundle.catalogue.folder.parent)
    fixed = ["--url", service.url, "--bundle", folder, "--out", str(out), "--users", "all"]
    return main(["replay", *fixed, *options])


def users_sent(service: FakeService) -> dict[str, set[Any]]:
    """The user ids of all requests, by strategy; None for a request without."""
    sent: dict[str, set[Any]] = {}
    for request in service.requests:
        sent.setdefault(request["query"]["strategy"], set()).add(request["body"].get("user_id"))
    return sent


def test_a_graph_backbone_gets_each_user_with_a_history_that_lacks_the_target(
    service: FakeService, histories: dict[str, list[str]], tmp_path: Path
) -> None:
    assert replay(service, tmp_path / "r.jsonl", "--backbone", "graph", "--strategies", "none,s3") == 0
    assert set(users_sent(service)) == {"none", "s3"}
    for request in service.requests:
        body = request["body"]
        assert body["history"] == histories[body["user_id"]][:-1]
    records = read_records(tmp_path / "r.jsonl").records
    assert {record["backbone"]["family"] for record in records} == {"graph"}
    assert len(records) == 2 * (USERS - 1)


def test_a_backbone_that_reads_histories_gets_no_user(service: FakeService, tmp_path: Path) -> None:
    assert replay(service, tmp_path / "r.jsonl", "--backbone", "toy") == 0
    assert users_sent(service) == {"none": {None}}


def test_without_a_named_backbone_the_one_that_answers_the_strategy_decides(
    service: FakeService, histories: dict[str, list[str]], tmp_path: Path
) -> None:
    service.backbones = {"s2": "graph"}
    assert replay(service, tmp_path / "r.jsonl", "--strategies", "none,s2") == 0
    tested = set(histories) - {"u11"}
    assert users_sent(service) == {"none": {None}, "s2": tested}


def test_a_default_that_becomes_another_backbone_during_the_run_stops_it_with_a_sentence(
    service: FakeService, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # The check before the run asks for none in place of s3; here the two have different defaults.
    service.backbones = {"s3": "graph"}
    assert replay(service, tmp_path / "r.jsonl", "--strategies", "s3") == 2
    message = capsys.readouterr().err
    assert "s3 is answered from backbone graph, which was asked without the user" in message
    assert "--backbone graph" in message
    assert not (tmp_path / "r.jsonl").exists()


@pytest.mark.parametrize(("backbone", "with_user"), [("graph", True), ("toy", False)])
def test_the_seconds_of_a_graph_backbone_are_those_of_requests_with_a_user(
    backbone: str, with_user: bool, service: FakeService
) -> None:
    folder = str(service.bundle.catalogue.folder.parent)
    fixed = ["--url", service.url, "--bundle", folder, "--users", "3", "--warmup", "1"]
    assert main(["efficiency", *fixed, "--strategies", "none", "--backbone", backbone]) == 0
    assert {"user_id" in request["body"] for request in service.requests} == {with_user}
    assert all(request["body"]["history"] for request in service.requests)
