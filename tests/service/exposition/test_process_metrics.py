"""Tests the process_* metrics of several processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from service.exposition.process_metrics import process_families
from service.exposition.text_format import write_text

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="there is no /proc")


def test_each_process_has_the_names_that_dashboards_know_under_its_own_label() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        text = write_text(process_families({"0": child.pid, "parent": os.getpid()})).decode()
        values = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
        for name in (
            "cpu_seconds_total",
            "resident_memory_bytes",
            "open_fds",
            "max_fds",
            "start_time_seconds",
        ):
            for worker in ("0", "parent"):
                assert float(values[f'process_{name}{{worker="{worker}"}}']) >= 0
        assert float(values['process_resident_memory_bytes{worker="parent"}']) > 20e6
        assert float(values['process_start_time_seconds{worker="0"}']) > time.time() - 3600
        assert "# TYPE process_cpu_seconds_total counter" in text
    finally:
        child.communicate(b"\n")


def test_a_process_that_has_ended_has_no_values() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert process_families({"0": ended.pid}) == []
