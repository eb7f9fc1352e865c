"""A real service that is sent generated requests, and what its memory was after each thousand of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from service_process import RunningService, start_service

from benchmarks.edge.fuzz_shard import ShardResult, load_everything, read_vocabulary, run_shard
from benchmarks.lab.servers import RunningService as Measured

REQUESTS = 1_000


@dataclass
class Fuzzed:
    """A service under test.

    Attributes:
        service: the running service.
        key: its API key; empty for none.
        memory: resident megabytes after each thousand requests.
    """

    service: RunningService
    key: str
    memory: list[float] = field(default_factory=list)

    def send(self, seed: int) -> ShardResult:
        result = run_shard(read_vocabulary(self.service.url, self.key), seed, REQUESTS)
        resident = Measured(0, self.service.process).resident_bytes()
        self.memory.append((resident or 0) / 1e6)
        return result


Fuzzing = Callable[..., AbstractContextManager[Fuzzed]]


@pytest.fixture(scope="session")
def fuzzing(bundle_folder: Path) -> Fuzzing:
    """Starts a service with these settings and small caches, which are full after the first thousand."""

    @contextmanager
    def fuzzed(**settings: str) -> Iterator[Fuzzed]:
        small = {"memory_cache_bytes": "4194304", "thumbnail_cache_bytes": "4194304", "drain_s": "0"}
        with start_service(bundle_folder, log_level="error", **small, **settings) as service:
            fuzzed = Fuzzed(service, settings.get("api_key", ""))
            load_everything(read_vocabulary(service.url, fuzzed.key))
            yield fuzzed
            assert service.process.poll() is None
            assert "Traceback" not in service.log

    return fuzzed
