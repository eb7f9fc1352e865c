from __future__ import annotations

import json
import urllib.request
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.errors import BenchmarkError
from benchmarks.lab.load_generator import LoadResult
from benchmarks.lab.servers import free_port, running
from benchmarks.speed.http_overhead import BARE, OURS, ServerComparison, comparison_table, verdicts
from models.printed_table import NO_VALUE


@pytest.mark.slow
def test_both_servers_are_loaded_and_compared_on_the_same_items(
    bundle_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--bundle", str(bundle_folder), "--rounds", "1", "--seconds", "0.4", "--connections", "2"]
    assert main(["http", *options]) == 0
    page = capsys.readouterr().out
    assert f"- command: `python -m benchmarks http {' '.join(options)}`" in page
    assert page.count("not measured in this run") == 2
    rows = [line.split("|") for line in page.splitlines() if line.startswith("| ")][2:]
    assert [row[1].strip() for row in rows] == ["bare app", "service"]
    assert all(float(row[3]) > 0 for row in rows)
    assert all(int(row[6]) == 0 for row in rows)
    assert float(rows[1][7]) > 0


def test_the_bare_app_ranks_without_leaving_anything_out(bundle_folder: Path) -> None:
    port = free_port()
    arguments = ["--bundle", str(bundle_folder), "--backbone", "blocks-raw", "--port", str(port)]
    with running("benchmarks.speed.bare_app", arguments, {}, port, None):
        body = json.dumps({"history": ["I000"], "k": 2}).encode()
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/recommend", body, timeout=10) as response:
            found = json.load(response)
    assert [item["item_id"] for item in found["items"]] == ["I000", "I016"]


def test_a_server_that_does_not_start_is_reported_with_its_last_words(tmp_path: Path) -> None:
    arguments = ["--bundle", str(tmp_path / "absent"), "--backbone", "x", "--port", "1"]
    with (
        pytest.raises(BenchmarkError, match=r"did not start: .*there is no bundle at"),
        running("benchmarks.speed.bare_app", arguments, {}, 1, None),
    ):
        pass


def test_a_backbone_that_does_not_exist_is_one_sentence(
    bundle_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["http", "--bundle", str(bundle_folder), "--backbone", "absent"]) == 2
    assert "no raw backbone absent: it has blocks-enhanced, blocks-raw" in capsys.readouterr().err


def test_ratios_are_ours_by_the_bare_apps() -> None:
    ours, bare = LoadResult(1.0, (0.2,) * 6, 0), LoadResult(1.0, (0.1,) * 10, 1)
    table = comparison_table([ServerComparison(32, {OURS: [ours], BARE: [bare]})])
    assert table.rows == (
        ("bare app", "32", "10", "100.00", "100.00", "1", "1", NO_VALUE, "1", NO_VALUE),
        ("service", "32", "6", "200.00", "200.00", "0", "0.60", "0.60–0.60", "2.00", "2.00–2.00"),
    )


def test_the_limits_are_judged_at_32_connections() -> None:
    slow, fast = LoadResult(1.0, (0.2,) * 5, 0), LoadResult(1.0, (0.1,) * 10, 0)
    good, bad = {OURS: [fast], BARE: [fast]}, {OURS: [slow], BARE: [fast]}
    met, lost = (
        verdicts([ServerComparison(1, a), ServerComparison(32, b)]) for a, b in ((bad, good), (good, bad))
    )
    assert met.count(", met") == 2
    assert "not met" not in met
    assert lost.count("not met") == 2
