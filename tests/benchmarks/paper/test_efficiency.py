from __future__ import annotations

import json
import threading
import time
import urllib.request
from pathlib import Path

import pytest
from fake_service import FakeService

from benchmarks.__main__ import main
from benchmarks.lab.prometheus import HistogramTotal
from benchmarks.lab.service_client import Reply
from benchmarks.paper.efficiency import paper_seconds, seconds_table, summarise
from service.strategies import STRATEGIES


def measure(service: FakeService, *options: str) -> int:
    folder = str(service.bundle.catalogue.folder.parent)
    return main(
        ["efficiency", "--url", service.url, "--bundle", folder, "--users", "4", "--warmup", "1", *options]
    )


def rows(path: Path) -> dict[str, dict[str, object]]:
    return {row["strategy"]: row for row in json.loads(path.read_text())["rows"]}


def test_client_and_histogram_agree_on_what_a_request_takes(service: FakeService, tmp_path: Path) -> None:
    service.slow = 0.03
    assert measure(service, "--strategies", "none,s3", "--json", str(tmp_path / "e.json")) == 0
    for row in rows(tmp_path / "e.json").values():
        assert row["histogram_count"] == row["users"] == 4
        assert 0.03 <= row["histogram_mean"] <= row["client_mean"]
        assert row["client_p50"] <= row["client_p95"]
    assert rows(tmp_path / "e.json")["s3"]["input_tokens"] == 100


def test_a_histogram_without_an_observation_is_a_dash_in_the_page_and_null_in_json() -> None:
    replies = [Reply(200, {"outcome": "ok"}, 0.1, 1, None)]
    row = summarise("none", replies, HistogramTotal(0.0, 0.0))
    assert row.to_json()["histogram_mean"] is None
    assert "nan" not in seconds_table([row], {}).markdown().lower()


def test_the_page_puts_the_paper_and_the_training_cost_beside_the_seconds(
    service: FakeService, capsys: pytest.CaptureFixture[str]
) -> None:
    measure(service, "--strategies", "none,s1,s3")
    page = capsys.readouterr().out
    cells = {
        line.split("|")[1].strip(): [c.strip() for c in line.split("|")]
        for line in page.splitlines()
        if "|" in line
    }
    assert cells["none"][9] == "0.0025"
    assert cells["s3"][9] == "42.4901 / 24.49 / 24.7115"
    assert "GPT-4V / GPT-4o / Claude-3-Opus" in page
    assert cells["toy"][5:7] == ["1.5", "5.4"]
    assert "never quoted as a result" in page


def test_answers_are_not_taken_from_the_cache_unless_asked(service: FakeService) -> None:
    measure(service, "--strategies", "s3")
    assert {request["query"]["cache"] for request in service.requests} == {"off"}
    assert all("candidates" not in request["body"] for request in service.requests)


def test_requests_of_another_client_are_noticed(
    service: FakeService, capsys: pytest.CaptureFixture[str]
) -> None:
    service.slow = 0.02
    stop = threading.Event()
    other = threading.Thread(target=_use, args=(service.url, stop))
    other.start()
    while not service.requests:
        time.sleep(0.001)
    try:
        measure(service, "--strategies", "none")
    finally:
        stop.set()
        other.join()
    assert "another client used the service" in capsys.readouterr().out


def test_a_refused_strategy_is_left_out_and_said_so(
    service: FakeService, capsys: pytest.CaptureFixture[str]
) -> None:
    service.refused = frozenset({"s2"})
    assert measure(service, "--strategies", "none,s2") == 0
    shown = capsys.readouterr()
    assert "s2 is left out: the service refuses it" in shown.out + shown.err
    assert measure(service, "--strategies", "s2") == 2


def test_failed_requests_are_timed_and_change_the_exit_code(service: FakeService, tmp_path: Path) -> None:
    service.broken = frozenset({"I00"})
    assert measure(service, "--strategies", "none", "--json", str(tmp_path / "e.json")) == 1
    row = rows(tmp_path / "e.json")["none"]
    assert (row["failures"], row["outcomes"], row["histogram_count"]) == (4, {"failed": 4}, 4)


def test_the_papers_figures_name_our_strategies() -> None:
    paper = paper_seconds()
    assert paper.keys() == STRATEGIES.keys()
    assert all(len(paper[name]) == 3 for name in ("s1", "s3", "s4", "s5"))
    assert paper["none"] == {"SASRec": 0.0025}


def _use(url: str, stop: threading.Event) -> None:
    body, headers = b'{"history": ["I01"], "k": 2}', {"content-type": "application/json"}
    request = urllib.request.Request(f"{url}/recommend?strategy=none", body, headers)
    while not stop.is_set():
        with urllib.request.urlopen(request, timeout=10) as response:
            response.read()
