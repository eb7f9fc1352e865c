"""Tests that every image of a real catalogue is described and paid for once, even if runs are killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import httpx
import pytest
from simulator_process import REPOSITORY, start_simulator

from models.data import amazon_plus

POSTERS = 2_035
KILLS = 5

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


def run(*arguments: object, **settings: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", *map(str, arguments)],
        env={**os.environ, **settings},
        cwd=REPOSITORY,
        stderr=subprocess.DEVNULL,
    )


@pytest.mark.parametrize("batch", [False, True], ids=["one-by-one", "batch"])
def test_posters_are_described_once_over_five_kills_and_read_back(
    real_data: Path, tmp_path: Path, batch: bool
) -> None:
    movies, bundle = real_data / "movielens_posters" / "movies", tmp_path / "bundle"
    assert run("models", "data", "--data", movies, "--bundle", bundle).wait() == 0
    enhance = ("service", "enhance", "--bundle", bundle, "--captioner", "test", "--concurrency", 8)
    path = bundle / "catalogue" / "captions" / "test.jsonl"
    with start_simulator(profile="fast", ttft=0.02, tokens_per_second=2000, batch_seconds=8) as url:
        command = (*enhance, *(["--batch"] if batch else []))
        for kill in range(KILLS):
            process = run(*command, MSR_SIMULATOR_URL=url)
            if batch:
                time.sleep(1 + kill)
            else:
                while not path.exists() or path.read_bytes().count(b"\n") < POSTERS * (kill + 1) // 7:
                    assert process.poll() is None
                    time.sleep(0.01)
            process.send_signal(signal.SIGKILL)
            process.wait()
        assert run(*command, MSR_SIMULATOR_URL=url).wait() == 0
        calls = httpx.get(f"{url}/ledger", trust_env=False, timeout=60).json()
    captions = [json.loads(line) for line in path.read_text().splitlines()]
    different = len({poster.read_bytes() for poster in (bundle / "catalogue" / "images").iterdir()})
    assert Counter(call["outcome"] for call in calls) == {"ok": different}
    assert len(captions) == len({caption["item_id"] for caption in captions}) == POSTERS
    assert not list(path.parent.glob("test.*s"))  # no notes of calls or batches are left

    plus = Path(shutil.copytree(movies, tmp_path / "plus", copy_function=shutil.copyfile))
    side = plus / "item2side.json"
    assert run("models", "captions", "--bundle", bundle, "--data", movies, "--output", side).wait() == 0
    described = amazon_plus.read(plus, pictures=real_data / "movielens_posters" / "photos" / "movies")
    assert len(described.captions["test"]) == POSTERS
