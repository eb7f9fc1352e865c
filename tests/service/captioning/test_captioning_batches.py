"""``python -m service enhance --batch`` against the simulator's batch APIs, through the real SDKs."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from simulator_process import REPOSITORY, start_simulator

from models.contracts.captions import Caption
from service.captioning import command as door
from service.captioning.batch_submitter import BatchSubmitter
from service.captioning.submissions import Submission, Submissions
from service.lvlm.providers.anthropic.batches import AnthropicBatches

IMAGES = 40  # of the 48 items
KEYS = {"openai": "OPENAI_API_KEY", "anthropic": "ANTHROPIC_API_KEY"}
MODELS = {"openai": "gpt-4o", "anthropic": "claude-haiku-4-5"}


@pytest.fixture(scope="module")
def simulator() -> Iterator[str]:
    with start_simulator(batch_seconds=0.1) as url:
        yield url


@pytest.fixture(scope="module")
def slow() -> Iterator[str]:
    """A simulator whose batches take a while."""
    with start_simulator(batch_seconds=1.5) as url:
        yield url


@pytest.fixture
def slower() -> Iterator[str]:
    """A simulator whose batches last longer than it takes a busy machine to interrupt a run."""
    with start_simulator(batch_seconds=4) as url:
        yield url


@pytest.fixture
def bundle(bundle_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle_folder, tmp_path / "bundle"))


def settings_for(url: str) -> dict[str, str]:
    """The simulator in the places of both vendors."""
    return {
        "MSR_SIMULATOR_URL": url,
        "MSR_OPENAI_BASE_URL": f"{url}/v1",
        "MSR_ANTHROPIC_BASE_URL": url,
        "OPENAI_API_KEY": "rehearsal",
        "ANTHROPIC_API_KEY": "rehearsal",
    }


@pytest.fixture
def vendor(simulator: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    for name, value in settings_for(simulator).items():
        monkeypatch.setenv(name, value)
    send(simulator, "DELETE", "ledger")
    yield simulator
    send(simulator, "PUT", "faults", {"phases": []})


def send(url: str, method: str, path: str, content: object = None) -> Any:
    answer = httpx.request(method, f"{url}/{path}", json=content, trust_env=False)
    answer.raise_for_status()
    return answer.json() if answer.content else None


def enhance(bundle: Path, wire: str = "openai", *options: str) -> int:
    """The work of the child, in this process: it need not be killed."""
    return work([*arguments(bundle, wire), *options])


def work(argv: list[str]) -> int:
    return door._work(door._parser().parse_args(argv))


def arguments(bundle: Path, wire: str) -> list[str]:
    named = ["--provider", wire, "--model", MODELS[wire], "--captioner", "test"]
    return ["--bundle", str(bundle), *named, "--batch"]


def captions(bundle: Path) -> list[Caption]:
    path = folder_of(bundle) / "test.jsonl"
    return [Caption(**json.loads(line)) for line in path.read_text().splitlines()]


def folder_of(bundle: Path) -> Path:
    return bundle / "catalogue" / "captions"


def calls(url: str) -> list[dict[str, Any]]:
    return [call for call in send(url, "GET", "ledger") if call["kind"] == "caption"]


def assert_each_image_was_paid_for_once(bundle: Path, url: str) -> None:
    assert len(calls(url)) == IMAGES
    found = captions(bundle)
    assert len(found) == len({caption.item_id for caption in found}) == IMAGES
    assert not (folder_of(bundle) / "test.batches").exists()


@pytest.mark.parametrize("wire", ["openai", "anthropic"])
def test_every_image_is_captioned_in_a_batch_at_half_the_price(
    bundle: Path, vendor: str, wire: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert enhance(bundle, wire) == 0
    assert_each_image_was_paid_for_once(bundle, vendor)
    assert all(call["batch"] for call in calls(vendor))
    cost = sum(call["cost_usd"] for call in calls(vendor))
    told = capfd.readouterr().err
    assert f"{IMAGES} captions written to captions/test.jsonl, 0 failed, ${cost:.4f}" in told
    assert f"handed in {IMAGES} images" in told


def test_the_captions_are_those_of_ordinary_calls(bundle: Path, vendor: str, tmp_path: Path) -> None:
    other = Path(shutil.copytree(bundle, tmp_path / "other"))
    assert enhance(bundle) == 0
    assert work([*arguments(other, "openai")[:-1], "--concurrency", "8"]) == 0
    one_by_one = {caption.item_id: caption for caption in captions(other)}
    assert {caption.item_id: caption for caption in captions(bundle)} == one_by_one


def test_a_large_backlog_goes_in_several_batches(
    bundle: Path, vendor: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("service.captioning.batch_submitter.MAX_BATCH_REQUESTS", 15)
    assert enhance(bundle) == 0
    assert capfd.readouterr().err.count("handed in ") == 3
    assert_each_image_was_paid_for_once(bundle, vendor)


def test_a_limit_hands_in_no_more_and_fetches_all(bundle: Path, vendor: str) -> None:
    assert enhance(bundle, "openai", "--limit", "15") == 0
    assert len(captions(bundle)) == len(calls(vendor)) == 15
    assert enhance(bundle) == 0
    assert_each_image_was_paid_for_once(bundle, vendor)


# Where a run of either wire may die is tried in this process, below.
@pytest.mark.slow
@pytest.mark.parametrize("wire", ["openai", "anthropic"])
def test_a_run_that_is_killed_again_and_again_hands_nothing_in_twice(
    bundle: Path, slow: str, wire: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    send(slow, "DELETE", "ledger")
    environment = {**os.environ, **settings_for(slow)}
    command = [sys.executable, "-m", "service", "enhance", *arguments(bundle, wire)]
    note = folder_of(bundle) / "test.batches"
    for kill in range(4):  # at its start, as soon as it has noted what it will hand in, and while it waits
        process = subprocess.Popen(command, env=environment, cwd=REPOSITORY, stderr=subprocess.DEVNULL)
        while kill == 1 and not note.exists():
            time.sleep(0.001)
        time.sleep((0.3, 0.0, 0.5, 1.0)[kill])
        process.send_signal(signal.SIGKILL)
        process.wait()
    for name, value in settings_for(slow).items():
        monkeypatch.setenv(name, value)
    assert enhance(bundle, wire) == 0  # it waits for what the killed run's child is still doing
    assert_each_image_was_paid_for_once(bundle, slow)


@pytest.mark.clock
def test_an_interrupted_run_leaves_its_batches_and_the_next_one_fetches_them(
    bundle: Path, slower: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = [sys.executable, "-m", "service", "enhance", *arguments(bundle, "openai")]
    process = subprocess.Popen(
        command,
        env={**os.environ, **settings_for(slower)},
        cwd=REPOSITORY,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    while "handed in" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "goes on there" in told
    assert "the same command goes on" in told
    assert not (bundle / "catalogue" / "captions" / "test.jsonl").exists()
    for name, value in settings_for(slower).items():
        monkeypatch.setenv(name, value)
    assert enhance(bundle) == 0
    assert_each_image_was_paid_for_once(bundle, slower)


@pytest.mark.parametrize("wire", ["openai", "anthropic"])
def test_a_batch_whose_acceptance_got_lost_is_found_and_not_handed_in_again(
    bundle: Path, vendor: str, wire: str
) -> None:
    # OpenAI's upload comes first and is lost too; it is free, and made again.
    lost = {"fault": "reset", "models": ["batches"], "calls": 1}
    upload = [{"fault": None, "models": ["batches"], "calls": 1}] if wire == "openai" else []
    send(vendor, "PUT", "faults", {"phases": [*upload, lost]})
    assert enhance(bundle, wire) == 0
    assert_each_image_was_paid_for_once(bundle, vendor)


@pytest.mark.clock
def test_a_batch_that_is_listed_late_is_not_handed_in_twice(
    bundle: Path, vendor: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    created_since = AnthropicBatches.created_since

    async def late(self: AnthropicBatches, at: float, token: str, requests: int) -> list[str]:
        found = await created_since(self, at, token, requests)
        return found if time.time() > at + 1.5 else []

    monkeypatch.setattr(AnthropicBatches, "created_since", late)
    send(vendor, "PUT", "faults", {"phases": [{"fault": "reset", "models": ["batches"], "calls": 1}]})
    assert enhance(bundle, "anthropic") == 0
    assert_each_image_was_paid_for_once(bundle, vendor)


def test_a_submission_that_stays_in_doubt_is_left_to_the_next_run(
    bundle: Path, vendor: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nothing(self: AnthropicBatches, at: float, token: str, requests: int) -> list[str]:
        return []

    with monkeypatch.context() as patch:
        patch.setattr("service.captioning.batch_client.MAX_ATTEMPTS", 1)
        patch.setattr(AnthropicBatches, "created_since", nothing)
        send(vendor, "PUT", "faults", {"phases": [{"fault": "reset", "models": ["batches"], "calls": 1}]})
        assert enhance(bundle, "anthropic") == 1
    assert enhance(bundle, "anthropic") == 0
    assert_each_image_was_paid_for_once(bundle, vendor)


@pytest.mark.parametrize("wire", ["openai", "anthropic"])
def test_a_submission_whose_run_died_before_it_noted_the_batch_is_found(
    bundle: Path, vendor: str, wire: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_batch = BatchSubmitter._create_batch

    async def submit_and_die(self: BatchSubmitter, submission: Submission, named: Any) -> Any:
        await create_batch(self, submission, named)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(BatchSubmitter, "_create_batch", submit_and_die)
        with pytest.raises(KeyboardInterrupt):
            enhance(bundle, wire)
    (kept,) = Submissions(folder_of(bundle) / "test.batches")
    assert not kept.batches
    assert enhance(bundle, wire) == 0
    assert_each_image_was_paid_for_once(bundle, vendor)


@pytest.mark.parametrize("wire", ["openai", "anthropic"])
def test_a_submission_that_never_arrived_is_handed_in(bundle: Path, vendor: str, wire: str) -> None:
    submissions = Submissions(folder_of(bundle) / "test.batches")
    submissions.path.parent.mkdir(exist_ok=True)
    submissions.save(Submission(tuple(f"I{number:03}" for number in range(7))))
    assert enhance(bundle, wire) == 0
    assert_each_image_was_paid_for_once(bundle, vendor)


@pytest.mark.parametrize("wire", ["openai", "anthropic"])
def test_a_request_that_failed_is_named_and_asked_again_by_the_next_run(
    bundle: Path, vendor: str, wire: str, capfd: pytest.CaptureFixture[str]
) -> None:
    faults = [
        {"fault": "500", "calls": 3},
        {"fault": "black_hole", "calls": 2},
        {"fault": "refusal", "calls": 1},
    ]
    send(vendor, "PUT", "faults", {"phases": faults})
    assert enhance(bundle, wire) == 1
    told = capfd.readouterr().err
    assert told.count("the call failed: server") == 3
    assert told.count("the batch ended before its turn came") == 2
    assert told.count("the answer is no caption") == 1
    assert len(captions(bundle)) == IMAGES - 6
    assert enhance(bundle, wire) == 0
    assert len(captions(bundle)) == IMAGES


@pytest.mark.clock
def test_a_provider_that_is_busy_is_asked_again(bundle: Path, vendor: str) -> None:
    busy = {"fault": "429", "models": ["batches"], "calls": 2, "retry_after": 0.1}
    send(vendor, "PUT", "faults", {"phases": [busy]})
    assert enhance(bundle, "anthropic") == 0
    assert_each_image_was_paid_for_once(bundle, vendor)


def test_a_refused_key_stops_the_run_and_leaves_nothing_behind(
    bundle: Path, vendor: str, capfd: pytest.CaptureFixture[str]
) -> None:
    send(vendor, "PUT", "faults", {"phases": [{"fault": "401", "models": ["batches"]}]})
    assert enhance(bundle) == 1
    assert "check the provider's API key" in capfd.readouterr().err
    assert not calls(vendor)


def test_nothing_is_handed_in_that_could_pass_the_budget(
    bundle: Path, vendor: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert enhance(bundle, "openai", "--budget-usd", "0.008") == 1
    assert "images are left" in capfd.readouterr().err
    spent = sum(call["cost_usd"] for call in calls(vendor))
    assert 0.002 < spent <= 0.008
    assert 0 < len(captions(bundle)) < IMAGES


def test_a_deployments_budget_stops_a_batch_before_it_is_handed_in(
    bundle: Path, vendor: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MSR_BUDGET_USD_PER_DAY", "0.001")
    assert enhance(bundle) == 1
    assert "does not bear this batch" in capfd.readouterr().err
    assert not calls(vendor)
    assert not (folder_of(bundle) / "test.batches").exists()


def test_images_that_are_with_the_provider_are_not_asked_for_one_by_one(
    bundle: Path, vendor: str, capfd: pytest.CaptureFixture[str]
) -> None:
    submissions = Submissions(folder_of(bundle) / "test.batches")
    submissions.path.parent.mkdir(exist_ok=True)
    submissions.save(Submission(("I001", "I002"), batches=("batch_1",)))
    assert work(arguments(bundle, "openai")[:-1]) == 1
    assert "2 images are with the provider" in capfd.readouterr().err
    assert not calls(vendor)


def test_a_batch_of_another_account_is_not_given_up(
    bundle: Path, vendor: str, capfd: pytest.CaptureFixture[str]
) -> None:
    submissions = Submissions(folder_of(bundle) / "test.batches")
    submissions.path.parent.mkdir(exist_ok=True)
    submissions.save(Submission(("I001", "I002"), batches=("batch_nobody",)))
    assert enhance(bundle) == 1
    assert "use the key that it was handed in with" in capfd.readouterr().err
    assert submissions.path.exists()


def test_damaged_notes_stop_the_run_with_a_sentence(
    bundle: Path, vendor: str, capfd: pytest.CaptureFixture[str]
) -> None:
    folder_of(bundle).mkdir(exist_ok=True)
    (folder_of(bundle) / "test.batches").write_text("[{")
    assert enhance(bundle) == 2
    assert "is damaged" in capfd.readouterr().err
    assert not calls(vendor)


def test_a_provider_without_batches_is_refused(
    bundle: Path, vendor: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MSR_COMPATIBLE", json.dumps({"vllm": {"base_url": f"{vendor}/v1", "models": ["m"]}}))
    assert work(["--bundle", str(bundle), "--provider", "vllm", "--batch"]) == 2
    assert "no batch API is known for vllm" in capfd.readouterr().err


def test_a_dry_run_says_what_a_batch_would_cost(
    bundle: Path, vendor: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert enhance(bundle, "openai", "--dry-run") == 0
    assert "with --batch $0.0" in capfd.readouterr().err
    assert not calls(vendor)
