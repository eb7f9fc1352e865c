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
from pathlib import Path

import pytest
from scripted_server import OpenAIScript, scripted_server_thread
from simulator_process import REPOSITORY, start_simulator

from models.contracts import BundleError, Caption
from service.bundle import open_bundle
from service.enhance import main
from service.lvlm.caption_file import CaptionFile

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
    return main(["--bundle", str(bundle), *options])


def captions(bundle: Path, captioner: str = "test") -> list[Caption]:
    path = bundle / "catalogue" / "captions" / f"{captioner}.jsonl"
    return [Caption(**json.loads(line)) for line in path.read_text().splitlines()]


@pytest.mark.usefixtures("asking")
def test_every_image_is_captioned_once_over_several_runs(
    bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert enhance(bundle, "--captioner", "test", "--limit", "15") == 0
    assert len(captions(bundle)) == 15
    assert enhance(bundle, "--captioner", "test") == 0
    assert "25/25 images" in capsys.readouterr().err
    found = captions(bundle)
    assert len(found) == len({caption.item_id for caption in found}) == IMAGES
    assert {(caption.provider, caption.model) for caption in found} == {("simulator", "sim-gpt-4o")}
    served = open_bundle(bundle).catalogue.captions["test"]
    assert len(served) == IMAGES


def test_a_killed_run_loses_no_line_and_is_continued(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with start_simulator(profile="fast", ttft=0.05, tokens_per_second=1000) as url:
        process = subprocess.Popen(
            command(bundle, "--captioner", "test", "--concurrency", "2"),
            env=environment(url),
            cwd=REPOSITORY,
            stderr=subprocess.DEVNULL,
        )
        path = bundle / "catalogue" / "captions" / "test.jsonl"
        while not path.exists() or path.read_bytes().count(b"\n") < 5:
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        written = captions(bundle)
        assert 5 <= len(written) < IMAGES
        with path.open("a") as stream:
            stream.write('{"item_id": "I0')  # as a kill in the middle of a write leaves it
        monkeypatch.setenv("MSR_SIMULATOR_URL", url)
        assert enhance(bundle, "--captioner", "test") == 0
    found = captions(bundle)
    assert found[: len(written)] == written
    assert len(found) == len({caption.item_id for caption in found}) == IMAGES


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
        _, told = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "the same command goes on" in told
    assert captions(bundle)


@pytest.mark.usefixtures("asking")
def test_a_broken_image_is_named_and_fails_the_run(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (bundle / "catalogue" / "images" / "I002.png").write_bytes(b"not an image")
    assert enhance(bundle, "--captioner", "test") == 1
    assert "I002: its image cannot be read" in capsys.readouterr().err
    assert len(captions(bundle)) == IMAGES - 1


def test_a_refused_key_stops_the_run_at_once(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    refused = OpenAIScript().error(401, "invalid_request_error")
    with scripted_server_thread(refused) as server:
        monkeypatch.setenv("OPENAI_API_KEY", "wrong")
        monkeypatch.setenv("MSR_OPENAI_BASE_URL", f"{server.url}/v1")
        assert enhance(bundle, "--provider", "openai", "--concurrency", "2") == 1
        assert len(server.requests) <= 4
    assert "check the provider's API key" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--provider", "nobody"), "no provider 'nobody'"),
        (("--captioner", "../up"), "names a file"),
    ],
)
@pytest.mark.usefixtures("asking")
def test_a_wrong_argument_is_answered_with_a_sentence(
    bundle: Path, options: tuple[str, ...], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert enhance(bundle, *options) == 2
    assert sentence in capsys.readouterr().err


def test_without_a_running_simulator_one_runs_beside_it(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MSR_SIMULATOR_URL", raising=False)
    monkeypatch.setenv("MSR_SIMULATOR_PROFILE", "instant")
    assert enhance(bundle, "--captioner", "test", "--limit", "3") == 0
    assert len(captions(bundle)) == 3
    assert "MSR_SIMULATOR_URL" not in os.environ


# --- the file -----------------------------------------------------------------------------------------


def line(item_id: str) -> Caption:
    return Caption(item_id, "p", "m", "1", "A “mug”.")


def test_a_caption_file_is_written_by_one_process_at_a_time(tmp_path: Path) -> None:
    with CaptionFile(tmp_path / "c.jsonl"), pytest.raises(BundleError, match="another run"):
        CaptionFile(tmp_path / "c.jsonl")
    with CaptionFile(tmp_path / "c.jsonl") as file:
        file.append(line("a"))
        assert file.versions == {"a": "1"}


def test_a_half_line_is_removed_and_whole_ones_stay(tmp_path: Path) -> None:
    path = tmp_path / "captions" / "c.jsonl"
    with CaptionFile(path) as file:
        file.append(line("a"))
        file.append(line("b"))
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:20])
    with CaptionFile(path) as file:
        assert list(file.versions) == ["a", "b"]
    assert path.read_bytes() == whole


def test_a_line_that_is_no_caption_stops_the_run_before_it_writes(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    path.write_text("hello\n")
    with pytest.raises(BundleError, match="line 1"):
        CaptionFile(path)
    assert path.read_text() == "hello\n"
