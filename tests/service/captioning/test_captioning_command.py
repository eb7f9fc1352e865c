"""``python -m service enhance`` against the simulator, as a process of its own where it is killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import httpx
import pytest
from scripted_server import OpenAIScript, scripted_server_thread
from simulator_process import REPOSITORY, start_simulator

from models.contracts import sha256_of
from models.contracts.captions import Caption
from service.captioning import command as command_module
from service.captioning.command import main
from service.catalogue.bundle import open_bundle

IMAGES = 40  # of the 48 items


@pytest.fixture(scope="module")
def simulator() -> Iterator[str]:
    with start_simulator() as url:
        yield url


@pytest.fixture
def bundle(bundle_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle_folder, tmp_path / "bundle"))


def command(bundle: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "service", "enhance", "--bundle", str(bundle), *options]


def environment(simulator: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MSR_")}
    return {**kept, "MSR_SIMULATOR_URL": simulator}


@pytest.fixture
def asking(simulator: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of a run in this process."""
    monkeypatch.setenv("MSR_SIMULATOR_URL", simulator)


def enhance(bundle: Path, *options: str) -> int:
    """The work of the child, in this process: it need not be killed."""
    return command_module._work(command_module._parser().parse_args(["--bundle", str(bundle), *options]))


def captions(bundle: Path, captioner: str = "test") -> list[Caption]:
    path = bundle / "catalogue" / "captions" / f"{captioner}.jsonl"
    return [Caption(**json.loads(line)) for line in path.read_text().splitlines()]


@pytest.mark.usefixtures("asking")
def test_every_image_is_captioned_once_over_several_runs(
    bundle: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert enhance(bundle, "--captioner", "test", "--limit", "15") == 0
    assert len(captions(bundle)) == 15
    assert main(["--bundle", str(bundle), "--captioner", "test"]) == 0  # in a child
    assert "25/25 images" in capfd.readouterr().err
    found = captions(bundle)
    assert len(found) == len({caption.item_id for caption in found}) == IMAGES
    assert {(caption.provider, caption.model) for caption in found} == {("simulator", "sim-gpt-4o")}
    served = open_bundle(bundle).catalogue.captions["test"]
    assert len(served) == IMAGES


@pytest.mark.slow
def test_a_run_that_is_killed_again_and_again_pays_for_no_image_twice(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = bundle / "catalogue" / "captions" / "test.jsonl"
    with start_simulator(profile="fast", ttft=0.05, tokens_per_second=1000) as url:
        run = partial(subprocess.Popen, env=environment(url), cwd=REPOSITORY, stderr=subprocess.DEVNULL)
        for kill in range(3):
            process = run(command(bundle, "--captioner", "test", "--concurrency", "2"))
            while not path.exists() or path.read_bytes().count(b"\n") < 8 * (kill + 1):
                assert process.poll() is None
                time.sleep(0.005)
            process.send_signal(signal.SIGKILL)
            process.wait()
        monkeypatch.setenv("MSR_SIMULATOR_URL", url)
        assert enhance(bundle, "--captioner", "test") == 0
        calls = httpx.get(f"{url}/ledger", trust_env=False).json()
        pictures = [
            httpx.get(f"{url}/ledger/{call['number']}/picture", trust_env=False).content for call in calls
        ]
    assert {call["outcome"] for call in calls} == {"ok"}
    assert len(calls) == len(set(pictures)) == IMAGES
    found = captions(bundle)
    assert len(found) == len({caption.item_id for caption in found}) == IMAGES
    assert not path.with_suffix(".calls").exists()


def test_calls_that_were_lost_are_named_and_asked_again(
    bundle: Path, simulator: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MSR_SIMULATOR_URL", simulator)
    folder = bundle / "catalogue" / "captions"
    (folder / "test.calls").write_text("+I001\n+I002\n-I001\n+I0")  # as a machine that went down leaves it
    (folder / "test.jsonl").write_text('{"item_id": "I0')
    assert enhance(bundle, "--captioner", "test") == 0
    assert "2 calls of an earlier run ended without a caption" in capfd.readouterr().err
    assert len(captions(bundle)) == IMAGES


@pytest.mark.usefixtures("asking")
def test_equal_images_are_described_once(bundle: Path, simulator: str) -> None:
    items = bundle / "catalogue" / "items.jsonl"
    records = [json.loads(line) for line in items.read_text().splitlines()]
    digest = records[0]["image_sha256"]
    for record in records[:3]:
        record["image_sha256"] = digest
    items.write_text("".join(json.dumps(record) + "\n" for record in records))
    manifest = bundle / "catalogue" / "manifest.json"
    content = json.loads(manifest.read_text())
    content["sha256"]["items.jsonl"] = sha256_of(items)
    manifest.write_text(json.dumps(content))
    httpx.delete(f"{simulator}/ledger", trust_env=False)
    assert enhance(bundle, "--captioner", "test") == 0
    assert len(httpx.get(f"{simulator}/ledger", trust_env=False).json()) == IMAGES - 2
    assert len(captions(bundle)) == IMAGES


@pytest.mark.usefixtures("asking")
def test_a_dry_run_makes_no_call_and_says_what_it_would_take(
    bundle: Path, simulator: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert enhance(bundle, "--provider", "openai", "--model", "gpt-4o", "--dry-run") == 0
    told = capfd.readouterr().err
    assert f"{IMAGES} images to describe with openai/gpt-4o" in told
    assert "estimated cost: $0." in told
    assert not list((bundle / "catalogue").rglob("openai-gpt-4o*"))


@pytest.mark.clock
@pytest.mark.parametrize("fault", ["429", "529"])
def test_no_image_is_given_up_because_the_provider_has_too_much_to_do(
    bundle: Path, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.captioning.call_run.FIRST_BACKOFF", 0.2)
    monkeypatch.setattr("service.lvlm.calls.circuit_breaker.FIRST_OPEN", 0.2)
    with start_simulator() as url:
        monkeypatch.setenv("MSR_SIMULATOR_URL", url)
        storm = {"phases": [{"fault": None, "calls": 5}, {"fault": fault, "seconds": 1.5}]}
        httpx.put(f"{url}/faults", json=storm, trust_env=False)
        assert enhance(bundle) == 0
    assert len(captions(bundle, "simulator-sim-gpt-4o")) == IMAGES


@pytest.mark.clock
def test_a_call_that_is_slow_to_begin_is_not_made_twice(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MSR_LVLM_HEDGE", "1")
    with start_simulator() as url:
        monkeypatch.setenv("MSR_SIMULATOR_URL", url)
        slow = {"phases": [{"fault": None, "calls": 30}, {"fault": "straggler", "calls": 2, "delay": 2.0}]}
        httpx.put(f"{url}/faults", json=slow, trust_env=False)
        assert enhance(bundle, "--concurrency", "4") == 0
        calls = httpx.get(f"{url}/ledger", trust_env=False).json()
    assert len(calls) == len(captions(bundle, "simulator-sim-gpt-4o")) == IMAGES


def test_no_call_begins_that_could_pass_the_budget(
    bundle: Path, simulator: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "rehearsal")
    monkeypatch.setenv("MSR_OPENAI_BASE_URL", f"{simulator}/v1")
    monkeypatch.setenv("MSR_SIMULATOR_BILLS", "true")
    httpx.delete(f"{simulator}/ledger", trust_env=False)
    options = ("--provider", "openai", "--model", "gpt-4o", "--captioner", "test")
    assert enhance(bundle, *options, "--budget-usd", "0.008") == 1
    assert "images are left" in capfd.readouterr().err
    spent = httpx.get(f"{simulator}/ledger/summary", trust_env=False).json()["cost_usd"]
    assert 0.004 < spent <= 0.008
    assert 0 < len(captions(bundle)) < IMAGES


def test_many_calls_at_once_use_the_budget_as_far_as_few_do(
    bundle: Path, simulator: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "rehearsal")
    monkeypatch.setenv("MSR_OPENAI_BASE_URL", f"{simulator}/v1")
    monkeypatch.setenv("MSR_SIMULATOR_BILLS", "true")
    httpx.delete(f"{simulator}/ledger", trust_env=False)
    options = ("--provider", "openai", "--model", "gpt-4o", "--concurrency", "32")
    assert enhance(bundle, *options, "--budget-usd", "0.008") == 1
    spent = httpx.get(f"{simulator}/ledger/summary", trust_env=False).json()["cost_usd"]
    assert 0.006 < spent <= 0.008


def test_a_budget_without_a_price_is_refused(
    bundle: Path, simulator: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "never used")
    options = ("--provider", "openai", "--model", "gpt-99")
    assert enhance(bundle, *options, "--budget-usd", "1") == 2
    assert "no price is known for the model gpt-99" in capfd.readouterr().err


def test_an_interrupted_run_says_how_to_go_on(bundle: Path) -> None:
    with start_simulator(profile="fast", ttft=0.05) as url:
        process = subprocess.Popen(
            command(bundle, "--captioner", "test"),
            env=environment(url),
            cwd=REPOSITORY,
            stderr=subprocess.PIPE,
            text=True,
        )
        path = bundle / "catalogue" / "captions" / "test.jsonl"
        while not path.exists() or not path.read_bytes():
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "calls under way are being finished" in told
    assert "the same command goes on" in told
    assert captions(bundle)


@pytest.mark.usefixtures("asking")
def test_a_broken_image_is_named_and_fails_the_run(bundle: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (bundle / "catalogue" / "images" / "I002.png").write_bytes(b"not an image")
    assert enhance(bundle, "--captioner", "test") == 1
    assert "I002: its image cannot be read" in capfd.readouterr().err
    assert len(captions(bundle)) == IMAGES - 1


def test_a_refused_key_stops_the_run_at_once(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    refused = OpenAIScript().error(401, "invalid_request_error")
    with scripted_server_thread(refused) as server:
        monkeypatch.setenv("OPENAI_API_KEY", "wrong")
        monkeypatch.setenv("MSR_OPENAI_BASE_URL", f"{server.url}/v1")
        assert enhance(bundle, "--provider", "openai", "--concurrency", "2") == 1
        assert len(server.requests) <= 4
    assert "check the provider's API key" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--provider", "nobody"), "no provider 'nobody'"),
        (("--captioner", "../up"), "names a file"),
    ],
)
@pytest.mark.usefixtures("asking")
def test_a_wrong_argument_is_answered_with_a_sentence(
    bundle: Path, options: tuple[str, ...], sentence: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert enhance(bundle, *options) == 2
    assert sentence in capfd.readouterr().err


def test_without_a_running_simulator_one_runs_beside_it(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MSR_SIMULATOR_URL", raising=False)
    monkeypatch.setenv("MSR_SIMULATOR_PROFILE", "instant")
    assert enhance(bundle, "--captioner", "test", "--limit", "3") == 0
    assert len(captions(bundle)) == 3
    assert "MSR_SIMULATOR_URL" not in os.environ
