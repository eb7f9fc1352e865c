"""Tests that a bundle is opened anew while the service runs, and what `ready` says meanwhile."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from bundles import write_bundle
from starlette.testclient import TestClient

from models.contracts import BundleError
from service.errors import ConfigurationError
from service.http.process_state import ProcessState
from service.http.services import Services
from service.settings import Settings
from service.wiring.application import create_app
from service.wiring.reload import reload_bundle


@pytest.fixture(scope="module")
def process() -> ProcessState:
    return ProcessState()


@pytest.fixture(scope="module")
def client(bundle_folder: Path, process: ProcessState) -> Iterator[TestClient]:
    settings = Settings(bundle=bundle_folder, simulator_url="http://127.0.0.1:9")
    with TestClient(create_app(settings, process=process), "http://127.0.0.1") as client:
        yield client


@pytest.fixture
def services(client: TestClient) -> Services:
    found: Services = client.app.state.services  # type: ignore[attr-defined]
    return found


def version(client: TestClient) -> str:
    found: str = client.get("/health/ready").json()["bundle"]["version"]
    return found


async def test_another_version_is_served_at_once(
    client: TestClient, services: Services, tmp_path: Path
) -> None:
    before = version(client)
    settings = Settings(bundle=write_bundle(tmp_path / "next", items=40))
    generation = await reload_bundle(settings, services)
    assert version(client) == generation.catalogue.version != before


async def test_a_bundle_of_another_data_set_is_refused(
    client: TestClient, services: Services, tmp_path: Path
) -> None:
    before = version(client)
    bundle = write_bundle(tmp_path / "other", items=44)
    manifest = bundle / "catalogue" / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"dataset": "other"}))
    with pytest.raises(BundleError, match=r"is of the data set 'other'.*stop the service"):
        await reload_bundle(Settings(bundle=bundle), services)
    assert version(client) == before


@pytest.mark.parametrize("setting", ["backbone", "captioner"])
async def test_a_bundle_that_lacks_what_the_settings_name_is_refused(
    setting: str, client: TestClient, services: Services, bundle_folder: Path
) -> None:
    before = version(client)
    with pytest.raises(ConfigurationError, match=f"MSR_{setting.upper()} is 'x'"):
        await reload_bundle(Settings(bundle=bundle_folder, **{setting: "x"}), services)
    assert version(client) == before


def test_ready_names_what_is_down_and_says_when_the_process_is_about_to_stop(
    client: TestClient, process: ProcessState
) -> None:
    process.degraded.add("simulator")
    answer = client.get("/health/ready")
    assert (answer.status_code, answer.json()["degraded"]) == (200, ["simulator"])
    process.draining = True
    answer = client.get("/health/ready")
    assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")
    assert "draining" in answer.json()["detail"]
    assert client.get("/health/live").status_code == 200
    process.draining = False
    process.degraded.clear()
