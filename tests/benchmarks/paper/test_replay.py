from __future__ import annotations

import json
from pathlib import Path

import pytest
from fake_service import FakeService

from benchmarks.__main__ import main
from benchmarks.paper.records import read_records
from service.catalogue.bundle import open_bundle


def replay(service: FakeService, out: Path, *options: str) -> int:
    folder = str(service.bundle.catalogue.folder.parent)
    return main(
        ["replay", "--url", service.url, "--bundle", folder, "--out", str(out), "--users", "all", *options]
    )


def test_every_user_is_asked_once_per_strategy_and_everything_needed_for_scoring_is_kept(
    service: FakeService, tmp_path: Path
) -> None:
    assert replay(service, tmp_path / "r.jsonl", "--strategies", "none,s3") == 0
    run = read_records(tmp_path / "r.jsonl")
    asked = [(r["user"], r["strategy"]) for r in run.records]
    assert sorted(asked) == sorted({(user, name) for user in range(11) for name in ("none", "s3")})
    for r in run.records:
        assert r["target"] in r["candidates"]
        assert len(r["candidates"]) == 30
        assert {item["item_id"] for item in r["items"]} == set(r["candidates"])
        assert {"item_id", "score", "base_rank", "source"} == set(r["items"][0])
        assert (r["status"], r["error"], r["attempts"]) == (200, None, 1)
        assert r["client_seconds"] > 0
        assert r["timings_ms"] == {"total": 1.0}
    assert run.header["dataset"] == "tiny"
    assert run.header["backbones"]["toy"]["metrics"]["test"]["H@5"] == 0.75
    assert {"processor", "python", "commit"} <= run.header["machine"].keys()


def test_requests_carry_the_history_without_its_target_and_never_a_user(
    service: FakeService, tmp_path: Path
) -> None:
    replay(service, tmp_path / "r.jsonl", "--prompt", "paper", "--cache", "off", "--deadline-ms", "90000")
    targets = {tuple(r["candidates"]): r["target"] for r in read_records(tmp_path / "r.jsonl").records}
    for request in service.requests:
        body = request["body"]
        assert "user_id" not in body
        assert targets[tuple(body["candidates"])] not in body["history"]
        assert (body["k"], body["deadline_ms"]) == (30, 90000)
        assert request["query"] == {"strategy": "none", "prompt": "paper", "cache": "off"}


def test_a_second_run_asks_only_what_is_missing(service: FakeService, tmp_path: Path) -> None:
    out = tmp_path / "r.jsonl"
    replay(service, out)
    lines = out.read_bytes().splitlines(keepends=True)
    out.write_bytes(b"".join(lines[:-2]) + lines[-2][:40])
    service.requests.clear()
    assert replay(service, out) == 0
    assert len(service.requests) == 2
    assert len({(r["user"], r["strategy"]) for r in read_records(out).records}) == 11
    service.requests.clear()
    assert replay(service, out, "--strategies", "none,s1") == 0
    assert {request["query"]["strategy"] for request in service.requests} == {"s1"}


def test_resuming_with_other_options_is_refused(
    service: FakeService, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    replay(service, tmp_path / "r.jsonl")
    assert replay(service, tmp_path / "r.jsonl", "--modality", "image") == 2
    assert "modality not given (now image)" in capsys.readouterr().err


def test_a_failed_request_is_a_record_and_the_run_goes_on(
    service: FakeService, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    service.broken = frozenset({"I05"})
    assert replay(service, tmp_path / "r.jsonl") == 1
    records = read_records(tmp_path / "r.jsonl").records
    failures = [r for r in records if r["error"]]
    assert len(records) == 11
    assert 0 < len(failures) < 11
    assert all(
        r["status"] == 500 and r["items"] == [] and "broken for this one" in r["error"] for r in failures
    )
    assert f"{len(failures)} requests failed" in capsys.readouterr().out
    service.broken = frozenset()
    assert replay(service, tmp_path / "r.jsonl") == 1


def test_a_full_queue_is_waited_for(service: FakeService, tmp_path: Path) -> None:
    service.busy = 3
    assert replay(service, tmp_path / "r.jsonl", "--concurrency", "1") == 0
    records = read_records(tmp_path / "r.jsonl").records
    assert [r["attempts"] for r in records] == [4] + [1] * 10
    assert all(r["status"] == 200 for r in records)


def test_a_service_that_is_unavailable_for_a_moment_is_waited_for(
    service: FakeService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.lab.service_client.PAUSE", 0.01)
    service.unavailable = 3
    assert replay(service, tmp_path / "r.jsonl", "--concurrency", "1") == 0
    records = read_records(tmp_path / "r.jsonl").records
    assert [r["attempts"] for r in records] == [4] + [1] * 10
    assert all(r["status"] == 200 for r in records)


@pytest.mark.parametrize("status", [401, 403, 404, 503])
def test_a_service_that_turns_every_request_away_stops_the_run_and_no_user_becomes_a_miss(
    service: FakeService,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    status: int,
) -> None:
    monkeypatch.setattr("benchmarks.lab.service_client.PAUSE", 0.01)
    out = tmp_path / "r.jsonl"
    service.turned, service.turned_status = 4, status
    assert replay(service, out, "--concurrency", "1") == 2
    said = capsys.readouterr().err
    assert f"{status}: the fake has turned" in said
    assert "repeat the command" in said
    assert [r["status"] for r in read_records(out).records] == [200] * 4
    service.turned = None
    assert replay(service, out) == 0
    assert len(read_records(out).records) == 11


def test_the_header_says_how_many_users_there_are_to_ask(service: FakeService, tmp_path: Path) -> None:
    replay(service, tmp_path / "r.jsonl")
    assert read_records(tmp_path / "r.jsonl").header["cohort"] == 11


def test_a_strategy_that_the_service_refuses_stops_the_run_with_its_reason(
    service: FakeService, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    service.refused = frozenset({"s2"})
    assert replay(service, tmp_path / "r.jsonl", "--strategies", "s2") == 2
    assert "s2 needs an enhanced backbone" in capsys.readouterr().err
    assert not (tmp_path / "r.jsonl").exists()


def test_a_service_on_another_bundle_is_noticed(
    service: FakeService, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    service.foreign = True
    assert replay(service, tmp_path / "r.jsonl") == 2
    assert "give the --bundle that the service runs on" in capsys.readouterr().err


def test_a_service_that_goes_away_loses_no_answer_and_the_run_can_be_finished(
    service: FakeService, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "r.jsonl"
    service.stop_after, service.slow = 4, 0.03
    assert replay(service, out, "--concurrency", "1") == 2
    assert "start it again and repeat the command" in capsys.readouterr().err
    kept = read_records(out).records
    assert all(r["status"] == 200 for r in kept)
    assert 3 <= len(kept) < 11
    with FakeService(service.bundle).running() as again:
        assert replay(again, out) == 0
    assert len(read_records(out).records) == 11


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        (("--provider", "x"), "no provider 'x'; configured are simulator"),
        (("--model", "x"), "no model 'x'; configured are simulator/gpt-4o"),
        (("--backbone", "x"), "no backbone 'x'; configured are toy"),
    ],
)
def test_a_name_that_the_service_does_not_know_is_told_before_anything_is_asked_or_recorded(
    given: tuple[str, str],
    complaint: str,
    service: FakeService,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    service.wants = {"provider": "simulator", "model": "simulator/gpt-4o", "backbone": "toy"}
    assert replay(service, tmp_path / "r.jsonl", "--strategies", "s3", *given) == 2
    assert complaint in capsys.readouterr().err
    assert (service.requests, list(tmp_path.glob("r*"))) == ([], [])
    assert [check["query"]["strategy"] for check in service.checks] == ["none"]  # s3 would be a call
    assert (
        replay(service, tmp_path / "r.jsonl", "--strategies", "s3", given[0], service.wants[given[0][2:]])
        == 0
    )


@pytest.mark.parametrize("fault", ["key", "bundle", "backbone", "prefix"])
def test_a_wrong_key_bundle_or_prefix_is_told_before_anything_is_asked_or_recorded(
    fault: str, service: FakeService, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    complaint = {
        "key": "the fake wants a key",
        "bundle": "unknown candidates",
        "backbone": "give the --bundle that the service runs on",
        "prefix": "is a prefix of the URL missing or wrong",
    }[fault]
    url = service.url
    if fault == "key":
        service.key = "s3cr3t"
    elif fault == "bundle":
        service.wants = {}
        service.unknown = True
    elif fault == "backbone":
        service.foreign = True
    else:
        service.url += "/msr"
    assert replay(service, tmp_path / "r.jsonl") == 2
    assert complaint in capsys.readouterr().err
    assert (service.requests, list(tmp_path.glob("r*"))) == ([], [])
    service.key, service.unknown, service.foreign, service.url = "", False, False, url
    assert replay(service, tmp_path / "r.jsonl", "--seed", "7") == 0


def test_a_service_below_a_prefix_is_asked_there(tiny_bundle: Path, tmp_path: Path) -> None:
    with FakeService(open_bundle(tiny_bundle), prefix="/msr").running() as service:
        service.url += "/msr/"
        assert replay(service, tmp_path / "r.jsonl") == 0


def test_no_service_is_one_sentence(
    tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [
        "replay",
        "--url",
        "http://127.0.0.1:9",
        "--bundle",
        str(tiny_bundle),
        "--out",
        str(tmp_path / "r"),
    ]
    assert main(options) == 2
    assert "start one with `make run`" in capsys.readouterr().err


def test_a_service_that_is_not_ready_is_said_so(
    service: FakeService, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    service.ready = False
    assert replay(service, tmp_path / "r.jsonl") == 2
    assert "not ready (it says 503)" in capsys.readouterr().err


def test_the_key_of_a_guarded_service_is_sent(
    service: FakeService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MSR_API_KEY", "s3cr3t")
    replay(service, tmp_path / "r.jsonl")
    assert all(request["headers"]["x-api-key"] == "s3cr3t" for request in service.requests)
    assert "s3cr3t" not in (tmp_path / "r.jsonl").read_text()


def test_every_line_is_json_on_its_own(service: FakeService, tmp_path: Path) -> None:
    replay(service, tmp_path / "r.jsonl")
    kinds = [json.loads(line)["kind"] for line in (tmp_path / "r.jsonl").read_text().splitlines()]
    assert kinds == ["header"] + ["answer"] * 11
