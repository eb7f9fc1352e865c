from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from fake_service import FakeService

from benchmarks.__main__ import main


def scored(service: FakeService, tmp_path: Path, *strategies: str) -> tuple[int, Path]:
    out = tmp_path / "r.jsonl"
    folder = str(service.bundle.catalogue.folder.parent)
    replay = ["replay", "--url", service.url, "--bundle", folder, "--out", str(out), "--users", "all"]
    assert main([*replay, "--strategies", ",".join(strategies)]) == 0
    return main(
        ["score", str(out), "--csv", str(tmp_path / "s.csv"), "--markdown", str(tmp_path / "s.md")]
    ), out


def rows(tmp_path: Path) -> list[dict[str, str]]:
    with (tmp_path / "s.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def values(tmp_path: Path) -> dict[tuple[str, str, str], float]:
    return {(r["strategy"], r["score"], r["metric"]): float(r["value"]) for r in rows(tmp_path)}


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


def scored_again(out: Path, tmp_path: Path) -> str:
    options = ["--csv", str(tmp_path / "s.csv"), "--markdown", str(tmp_path / "s.md")]
    assert main(["score", str(out), *options]) == 0
    return (tmp_path / "s.md").read_text()


def test_a_complete_run_is_not_called_partial(service: FakeService, tmp_path: Path) -> None:
    scored(service, tmp_path, "none")
    assert "users answered" not in (tmp_path / "s.md").read_text()
    assert {(r["users"], r["cohort"]) for r in rows(tmp_path)} == {("11", "11")}


def test_a_half_finished_run_says_so_and_is_not_compared_with_training(
    service: FakeService, tmp_path: Path
) -> None:
    _, out = scored(service, tmp_path, "none")
    out.write_bytes(b"".join(out.read_bytes().splitlines(keepends=True)[:5]))
    page = scored_again(out, tmp_path)
    assert "none: 4 of 11 users answered (0 failed, 7 not asked)" in page
    assert "in training" not in page
    assert {(r["users"], r["cohort"]) for r in rows(tmp_path)} == {("4", "11")}


def test_a_run_with_a_failed_answer_says_so_and_is_not_compared_with_training(
    service: FakeService, tmp_path: Path
) -> None:
    _, out = scored(service, tmp_path, "none")
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    lines[3].update(error="500: broken", status=500, items=[], outcome=None, backbone=None)
    out.write_text("".join(json.dumps(line) + "\n" for line in lines))
    page = scored_again(out, tmp_path)
    assert "none: 10 of 11 users answered (1 failed, 0 not asked)" in page
    assert "in training" not in page


def test_records_that_do_not_say_how_many_users_there_were_are_not_compared(
    service: FakeService, tmp_path: Path
) -> None:
    _, out = scored(service, tmp_path, "none")
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    del lines[0]["cohort"]
    out.write_text("".join(json.dumps(line) + "\n" for line in lines))
    page = scored_again(out, tmp_path)
    assert "does not say how many users" in page
    assert "in training" not in page


def test_every_row_names_the_lvlm_and_the_backbone_that_answered(
    service: FakeService, tmp_path: Path
) -> None:
    scored(service, tmp_path, "none", "s3")
    version = service.bundle.backbones["toy"].manifest.version
    found = {r["strategy"]: (r["lvlm"], r["backbone"]) for r in rows(tmp_path)}
    assert found == {"none": ("", f"toy {version}"), "s3": ("simulator/simulator/gpt-4o", f"toy {version}")}
    page = (tmp_path / "s.md").read_text()
    assert "simulator/simulator/gpt-4o" in page
    assert f"toy {version}" in page
    assert "more than one" not in page


def test_a_row_that_mixes_models_is_said_loudly(service: FakeService, tmp_path: Path) -> None:
    _, out = scored(service, tmp_path, "none", "s3")
    out.write_bytes(b"".join(out.read_bytes().splitlines(keepends=True)[:-4]))
    service.model = "simulator/other"
    scored(service, tmp_path, "none", "s3")
    page = (tmp_path / "s.md").read_text()
    assert "**Warning: s3 mixes answers of more than one LVLM" in page
    assert "Warning: none" not in page
    models = "simulator/simulator/gpt-4o, simulator/simulator/other"
    assert {r["lvlm"] for r in rows(tmp_path) if r["strategy"] == "s3"} == {models}


def test_answers_from_the_cache_are_counted_and_their_seconds_explained(
    service: FakeService, tmp_path: Path
) -> None:
    service.cache = "hit"
    scored(service, tmp_path, "none", "s3")
    page = (tmp_path / "s.md").read_text()
    header, *_ = (line for line in page.splitlines() if "cache hits" in line and line.startswith("|"))
    (row,) = (line for line in page.splitlines() if line.startswith("| s3") and "ok 11" in line)
    place = [cell.strip() for cell in header.split("|")].index("cache hits")
    assert row.split("|")[place].strip() == "11"
    assert "11 of 11 answers of s3 come from the cache" in page


def test_a_run_without_cached_answers_has_no_note_of_them(service: FakeService, tmp_path: Path) -> None:
    scored(service, tmp_path, "none", "s3")
    assert "come from the cache" not in (tmp_path / "s.md").read_text()


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
