"""Tests what is imported when: the service starts without torch, and importing it loads no SDK."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from redis_process import free_port
from service_process import ROOT, RunningService, start_service
from starlette.testclient import TestClient

from service.errors import ConfigurationError
from service.settings import Settings
from service.wiring.application import create_app


def test_importing_the_application_loads_neither_torch_nor_an_sdk() -> None:
    program = "import service.wiring.application, sys, json; print(json.dumps(sorted(sys.modules)))"
    output = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, check=True).stdout
    loaded = {name.split(".")[0] for name in json.loads(output)}
    assert "fastapi" in loaded
    assert not loaded & {"torch", "openai", "anthropic", "redis", "onnx", "transformers"}


KEY = "it's open"


@pytest.fixture(scope="module")
def service(bundle_folder: Path) -> Iterator[RunningService]:
    with start_service(bundle_folder, api_key=KEY) as service:
        yield service


def test_the_running_service_maps_no_torch(service: RunningService) -> None:
    headers = {"x-api-key": KEY}
    answer = httpx.post(f"{service.url}/recommend?strategy=s3", json={"user_id": "u1"}, headers=headers)
    assert answer.json()["served"] == "s3"
    maps = Path(f"/proc/{service.process.pid}/maps").read_text()
    assert "onnxruntime" in maps
    assert "torch" not in maps


def test_the_start_prints_three_commands_that_work(service: RunningService) -> None:
    environment = {**os.environ, "MSR_API_KEY": KEY}
    commands: list[str] = []
    while not commands:  # printed in one go, when the service is ready
        commands = [line.strip() for line in service.log.splitlines() if line.strip().startswith("curl ")]
        time.sleep(0.01)
    assert len(commands) == 3
    for command in commands:
        done = subprocess.run(["sh", "-c", command], env=environment, capture_output=True, check=True)
        answer = json.loads(done.stdout)
        assert len(answer["items"]) == 5
        assert answer["served"] == answer["strategy"]
    assert KEY not in service.log


@pytest.mark.parametrize(
    ("variable", "value", "sentence"),
    [
        ("MSR_BUNDLE", "nowhere", "msr-serve: MSR_BUNDLE: there is no bundle at nowhere"),
        ("MSR_PORT", "0", "msr-serve: MSR_PORT: Input should be greater than or equal to 1"),
        ("MSR_BACKBONE", "x", "msr-serve: MSR_BACKBONE is 'x'; this bundle has blocks-enhanced, blocks-raw"),
        ("MSR_PROVIDER", "openai", "msr-serve: MSR_PROVIDER is 'openai': set OPENAI_API_KEY"),
    ],
)
def test_a_wrong_setting_stops_the_start_with_one_sentence(
    variable: str, value: str, sentence: str, bundle_folder: Path
) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MSR_")}
    environment |= {"MSR_BUNDLE": str(bundle_folder), "MSR_PORT": str(free_port()), variable: value}
    done = subprocess.run(
        [sys.executable, "-m", "service"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_a_captioner_that_the_bundle_lacks_stops_the_start_too(bundle_folder: Path) -> None:
    settings = Settings(bundle=bundle_folder, simulator_url="http://127.0.0.1:9", captioner="x")
    sentence = "MSR_CAPTIONER is 'x'; this bundle has captions of simulator"
    with pytest.raises(ConfigurationError, match=sentence), TestClient(create_app(settings)):
        pass


def test_requests_under_way_are_answered_when_the_service_stops(bundle_folder: Path) -> None:
    with start_service(bundle_folder) as service, ThreadPoolExecutor(8) as pool:
        url = f"{service.url}/recommend?strategy=s3&cache=off"
        bodies = [{"history": [f"I{number:03d}"], "k": 10, "deadline_ms": 60_000} for number in range(8)]
        with service.silent_simulator():
            answers = [pool.submit(httpx.post, url, json=body, timeout=60) for body in bodies]
            metrics = f"{service.url}/metrics"
            while "msr_inflight_requests 8.0" not in httpx.get(metrics).text:
                time.sleep(0.01)
            service.process.terminate()
        assert [answer.result().json()["served"] for answer in answers] == ["s3"] * 8
        assert service.process.wait(20) == 0
