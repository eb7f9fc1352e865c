from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_service import FakeService
from tiny_bundle import write_tiny_bundle

from benchmarks.__main__ import main
from service.bundle import open_bundle


@pytest.fixture
def service(tmp_path: Path) -> Iterator[FakeService]:
    with FakeService(open_bundle(write_tiny_bundle(tmp_path / "bundle"))).running() as fake:
        yield fake


def scored(service: FakeService, tmp_path: Path, *strategies: str) -> tuple[int, Path]:
    out = tmp_path / "r.jsonl"
    folder = str(service.bundle.catalogue.folder.parent)
    replay = ["replay", "--url", service.url, "--bundle", folder, "--out", str(out), "--users", "all"]
    assert main([*replay, "--strategies", ",".join(strategies)]) == 0
    return main(
        ["score", str(out), "--csv", str(tmp_path / "s.csv"), "--markdown", str(tmp_path / "s.md")]
    ), out


def values(tmp_path: Path) -> dict[tuple[str, str, str], float]:
    with (tmp_path / "s.csv").open(newline="") as stream:
        return {(r["strategy"], r["score"], r["metric"]): float(r["value"]) for r in csv.DictReader(stream)}


def test_tables_show_every_strategy_and_mark_the_simulator(service: FakeService, tmp_path: Path) -> None:
    assert scored(service, tmp_path, "none", "s3")[0] == 0
    page = (tmp_path / "s.md").read_text()
    assert "never quoted as a result" in page
    assert "| none " in page
    assert "| s3 " in page
    assert "H@1 as served" in page


def test_a_run_without_an_lvlm_is_not_called_simulated(service: FakeService, tmp_path: Path) -> None:
    scored(service, tmp_path, "none")
    assert "simulator" not in (tmp_path / "s.md").read_text()


def test_a_replay_of_all_users_stands_beside_the_numbers_of_training(
    service: FakeService, tmp_path: Path
) -> None:
    scored(service, tmp_path, "none")
    page = (tmp_path / "s.md").read_text()
    assert "none over HTTP beside the manifest of toy: H@1" in page
    assert "50.00 in training" in page


def test_a_fallback_keeps_the_served_score_and_costs_the_strategy_its_own(
    service: FakeService, tmp_path: Path
) -> None:
    service.lvlm_places = 0
    scored(service, tmp_path, "none", "s3")
    found = values(tmp_path)
    assert found["none", "strategy", "H@5"] > 0
    assert found["s3", "as served", "H@5"] == found["none", "as served", "H@5"]
    assert found["s3", "strategy", "H@5"] == 0
    assert ("s3", "answered only", "H@5") not in found


def test_records_without_an_answer_and_files_of_others_are_refused(
    service: FakeService, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, out = scored(service, tmp_path, "none")
    out.write_text(out.read_text().splitlines()[0] + "\n")
    assert main(["score", str(out)]) == 2
    assert "holds no answer yet" in capsys.readouterr().err
    (tmp_path / "other").write_text("hello\n")
    assert main(["score", str(tmp_path / "other")]) == 2
    assert "not a file of records" in capsys.readouterr().err
