"""Fixtures for all tests: a clock to move, a hand-made bundle, a real Redis, and the real data sets."""

from __future__ import annotations

import asyncio
import atexit
import itertools
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import moved_clock  # isort: skip - before anything of ours

import pytest
from bundles import write_bundle
from hypothesis import HealthCheck, settings
from redis_process import RedisServer, start_redis

pytest_plugins = "output_secrets"

REPOSITORY = Path(__file__).parents[1]

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # torch's threads would wait for those of others

# Nothing is kept in this account's own data folder: a service that is started is told another one.
DATA = Path(tempfile.mkdtemp(prefix="msr-test-data-"))
os.environ["MSR_DATA"] = str(DATA / "shared")
atexit.register(shutil.rmtree, DATA, ignore_errors=True)
_numbers = itertools.count()

# How long an example takes says something about the machine alone.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Give a test that asks for the clock a loop that lives by it."""
    moved = "clock" in item.fixturenames  # type: ignore[attr-defined]
    return {"moved": moved_clock.new_loop} if moved else {"real": asyncio.new_event_loop}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test that moves the clock as one that has to do with time."""
    for item in items:
        if "clock" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.clock)


@pytest.fixture
def clock() -> Iterator[moved_clock.MovedClock]:
    """The time, which passes when the test moves it or its event loop has nothing to do but wait."""
    yield moved_clock.taken()
    moved_clock.give_back()


@pytest.fixture(autouse=True)
def data_folder(monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder of the test's own, made by what uses it."""
    folder = DATA / str(next(_numbers))
    monkeypatch.setenv("MSR_DATA", str(folder))
    return folder


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
    server = start_redis(tmp_path)
    yield server
    server.stop()
