"""Tests that a start that fails says why in one sentence, before any "ready", and with its status."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from redis_process import free_port
from service_process import ROOT


def run(workers: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MSR_")}
    environment |= {"MSR_WORKERS": workers, "MSR_SIMULATOR_URL": "http://127.0.0.1:9", **variables}
    return subprocess.run(
        [sys.executable, "-m", "service"],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_port_in_use_is_said_before_anything_is_started(workers: str, bundle_folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run(workers, MSR_PORT=str(port), MSR_BUNDLE=str(bundle_folder))
    assert done.returncode == 1
    sentence = f"port {port} of 127.0.0.1 is in use: stop what listens there, or set MSR_PORT to another one"
    assert done.stderr == f"msr-serve: {sentence}\n"
    assert done.stdout == ""


@pytest.mark.slow
def test_a_bundle_that_no_worker_can_open_is_said_once(tmp_path: Path) -> None:
    done = run("2", MSR_PORT=str(free_port()), MSR_BUNDLE=str(tmp_path))
    assert done.returncode == 2
    assert done.stderr.count("msr-serve: MSR_BUNDLE: ") == done.stderr.count("MSR_BUNDLE") == 1
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
