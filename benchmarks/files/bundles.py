"""Serves broken copies of a good bundle, and runs the attacks on a service that the folder of faults has."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx

from benchmarks.errors import BenchmarkError
from benchmarks.files.outcome import TRACEBACK, Outcome
from benchmarks.files.programs import program, run_program
from benchmarks.lab.servers import free_port, started, url_of

BREAKER, ATTACK = "break_bundle.py", "service/bundle_meant_ill.py"
ANSWER_SECONDS = 20.0
"""Seconds that one answer of a service may take."""


def serve_all(faults: Path, good: Path) -> Iterator[Outcome]:
    """Yields what a service does with each broken copy of a good bundle: it serves it or says why not.

    Args:
        faults: folder of the programs.
        good: bundle that is copied.

    Raises:
        BenchmarkError: the program is missing or fails.
    """
    text = program(faults, BREAKER).read_text(encoding="utf-8")
    for case in re.findall(r'^ +case "([^"]+)":', text, re.MULTILINE):
        with tempfile.TemporaryDirectory(prefix="msr-files-") as scratch:
            out = Path(scratch, "bundle")
            run_program(faults, BREAKER, good, out, case)
            yield _serve(case, out, Path(scratch, "log"))
            for path in (out, *out.rglob("*")):  # one case takes the right to write away
                path.chmod(0o700)


def attack(faults: Path) -> Iterator[Outcome]:
    """Yields a row for each check of the attacks on a service with a bundle that was meant ill.

    Raises:
        BenchmarkError: the program is missing.
    """
    root = str(Path(__file__).resolve().parents[2])
    done = subprocess.run(
        [sys.executable, "-B", str(program(faults, ATTACK))],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "MSR_PYTHON": sys.executable, "PYTHONPATH": root},
    )
    for line in done.stdout.splitlines():
        verdict, _, check = line.partition("  ")
        if verdict in ("held", "FAIL"):
            case, _, seen = re.sub(r"/?tmp/\w+/", "", check).partition(": ")
            problems = () if verdict == "held" else ("did not hold",)
            yield Outcome("bundles meant ill", case, verdict, seen, problems=problems)
    if done.returncode or TRACEBACK in done.stderr:
        last = (done.stderr.strip().splitlines() or ["it ended with a failure"])[-1]
        yield Outcome("bundles meant ill", ATTACK, "failed", last, problems=("it did not end well",))


def _serve(case: str, bundle: Path, log: Path) -> Outcome:
    begun, port = time.monotonic(), free_port()
    settings = {
        "MSR_BUNDLE": str(bundle),
        "MSR_PORT": str(port),
        "MSR_PROVIDER": "simulator",
        "MSR_SIMULATOR_PROFILE": "instant",
        "MSR_WORKERS": "1",
        "MSR_REDIS_URL": "",
        "MSR_EVENTS_URL": "",
        "MSR_DRAIN_S": "0",
    }
    try:
        with started("service", ["-m", "service"], settings, port, output=log):
            problems = tuple(_asked(url_of(port)))
        outcome, sentence = "served", _warning(log)
    except BenchmarkError:
        problems, outcome = (), "refused"
        sentence = (log.read_text(errors="replace").strip().splitlines() or [""])[-1]
        if len(sentence.split()) < 4:
            problems = ("refused without a sentence",)
    if TRACEBACK in log.read_text(errors="replace"):
        problems = (*problems, "a traceback")
    sentence = sentence.replace(f"{bundle}/", "").replace(str(bundle), "the bundle")
    return Outcome("bundles", case, outcome, sentence, "", time.monotonic() - begun, 0, problems)


def _asked(url: str) -> Iterator[str]:
    """Asks a service as its users do; yields a sentence for each answer that should not be."""
    with httpx.Client(base_url=url, timeout=ANSWER_SECONDS) as client:
        item = client.get("/items?limit=1").json()["items"][0]["item_id"]
        answer = client.get(f"/items/{item}/image")
        if answer.status_code not in (200, 404):
            yield f"the picture of {item} answered {answer.status_code}"
        for strategy in ("none", "s3", "s5"):
            body = {"history": [item], "k": 3}
            answer = client.post("/recommend", params={"strategy": strategy, "cache": "off"}, json=body)
            if answer.status_code != httpx.codes.OK:
                yield f"{strategy} answered {answer.status_code}"


def _warning(log: Path) -> str:
    """Returns the first warning that the service logged."""
    for line in log.read_text(errors="replace").splitlines():
        if "WARNING" in line or '"level": "warning"' in line.lower():
            return line
    return ""
