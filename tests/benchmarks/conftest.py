"""Provides fixtures of several folders: a bundle whose replay can be checked by hand, and a fake service."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_service import FakeService
from tiny_bundle import histories_by_id, write_tiny_bundle

from service.catalogue.bundle import open_bundle


@pytest.fixture
def tiny_bundle(tmp_path: Path) -> Path:
    """Its folder; made anew for each test."""
    return write_tiny_bundle(tmp_path / "bundle")


@pytest.fixture
def histories(tiny_bundle: Path) -> dict[str, list[str]]:
    """Item ids by user id, of the bundle."""
    return histories_by_id(tiny_bundle)


@pytest.fixture
def service(tiny_bundle: Path) -> Iterator[FakeService]:
    """It runs until the test ends."""
    with FakeService(open_bundle(tiny_bundle)).running() as fake:
        yield fake
