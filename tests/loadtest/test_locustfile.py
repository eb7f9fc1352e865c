"""Locust replaces parts of the standard library when it is imported, so it runs in a process of its own."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import pytest
from fake_shop import FakeShop

ROOT = Path(__file__).parents[2]


def load(url: str, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    users = ["--headless", "-u", "10", "-r", "10", "-t", "3s", "--stop-timeout", "5"]
    where = ["--host", url, "--csv", str(folder / "load")]
    return subprocess.run(
        [sys.executable, "-m", "loadtest", *users, *where, *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def rows(folder: Path) -> dict[str, dict[str, str]]:
    with (folder / "load_stats.csv").open(newline="") as stream:
        return {row["Name"]: row for row in csv.DictReader(stream)}


def test_a_good_service_passes_with_a_row_of_latencies_for_each_strategy(tmp_path: Path) -> None:
    with FakeShop().running() as shop:
        done = load(shop.url, tmp_path)
    assert done.returncode == 0, done.stderr
    found = rows(tmp_path)
    # A request under way when the time is up was asked and has no row.
    asked = {f"/recommend [{strategy}]" for strategy in shop.asked} & found.keys()
    assert len(asked) >= 4
    assert all(found[name]["Failure Count"] == "0" and float(found[name]["95%"]) >= 0 for name in asked)
    assert "outcomes of none: ok" in done.stderr


@pytest.mark.slow
def test_a_service_that_forgets_what_was_taken_fails_the_run(tmp_path: Path) -> None:
    with FakeShop(forgetful=True).running() as shop:
        done = load(shop.url, tmp_path, "--scenario", "candidates")
    assert done.returncode == 1
    assert set(shop.asked) == {"none", "s2"}  # s2 by the question whether it can be served
    assert "the answer repeats" in done.stdout + done.stderr


@pytest.mark.slow
def test_a_strategy_that_the_bundle_cannot_serve_is_left_out_and_named(tmp_path: Path) -> None:
    with FakeShop(enhanced=False).running() as shop:
        done = load(shop.url, tmp_path)
    assert done.returncode == 0, done.stderr
    assert shop.asked.count("s2") == 1
    assert "s2 is left out: no enhanced backbone" in done.stderr


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("HTTP://127.0.0.1:9/msr/", "start one with `make run`, or give its --host"),
        ("http://me:s3cr3t@127.0.0.1:9", "the URL of the service must not hold a user name or password"),
    ],
)
def test_a_wrong_host_or_none_is_one_sentence_and_exit_code_2(
    url: str, complaint: str, tmp_path: Path
) -> None:
    done = load(url, tmp_path)
    assert done.returncode == 2
    assert complaint in done.stderr
    assert "s3cr3t" not in done.stdout + done.stderr


def test_an_unknown_scenario_is_one_sentence_and_exit_code_2(tmp_path: Path) -> None:
    done = load("http://127.0.0.1:9", tmp_path, "--scenario", "storm")
    assert done.returncode == 2
    assert "no scenario 'storm'" in done.stderr
