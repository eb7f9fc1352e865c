"""Command ``fuzz``: sends generated requests to a service, and counts the answers that break the contract.

Two services are asked: an open one, and one with keys, named hosts and a permitted origin. Requests are made
from the service's own description, by Schemathesis and by parts that are right or hostile, in shards with
seeds of their own. It fails if an answer has a status that is none of the contract's, if an
error is no problem document, if a service ends or logs a traceback, or if its memory grows after the first
tenth.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from benchmarks.edge.fuzz_shard import ShardResult, load_everything, read_vocabulary, run_shard
from benchmarks.errors import BenchmarkError
from benchmarks.lab.options import add_bundle_argument, positive
from benchmarks.lab.pages import add_markdown_argument, publish
from benchmarks.lab.servers import HOST, RunningService, free_port, started
from models import machine
from models.printed_table import Table

SHARD = 500
"""Requests of one shard."""
MEGABYTE = 1e6
MOST_GROWN = 20.0
"""Megabytes that a service's resident memory may grow between the first tenth of the requests and the end."""
KEY = "key-of-the-fuzzed-service"  # no secret: both ends are started here
SETTINGS: Mapping[str, Mapping[str, str]] = {
    "open": {},
    "with keys": {
        "MSR_API_KEY": KEY,
        "MSR_READ_KEY": "read-" + KEY,
        "MSR_ALLOWED_HOSTS": "127.0.0.1,shop.example",
        "MSR_CORS_ORIGINS": "https://shop.example",
        "MSR_METRICS_OPEN": "false",
    },
}
"""The services that are asked, and their settings."""
COMMON = {
    "MSR_SIMULATOR_PROFILE": "instant",
    # Caches that are full within the first tenth: from then on memory must be flat.
    "MSR_MEMORY_CACHE_BYTES": "4194304",
    "MSR_THUMBNAIL_CACHE_BYTES": "4194304",
    "MSR_LOG_LEVEL": "error",
    "MSR_WORKERS": "1",
    "MSR_REDIS_URL": "",
    "MSR_EVENTS_URL": "",
    "MSR_DRAIN_S": "0",
}


@dataclass
class Outcome:
    """What one service answered, over all of its shards.

    Attributes:
        statuses: answers by status code, 0 for a connection that was closed.
        faults: sentences about answers that break the contract, each kind once.
        broken: number of such answers.
        memory: resident bytes after each shard.
        ended: what is wrong with the process or its log; empty for nothing.
    """

    statuses: Counter[int] = field(default_factory=Counter)
    faults: dict[str, str] = field(default_factory=dict)
    broken: int = 0
    memory: list[int] = field(default_factory=list)
    ended: str = ""

    def add(self, result: ShardResult) -> None:
        """Adds a shard."""
        self.statuses += result.statuses
        self.broken += result.broken
        for fault in result.faults:
            self.faults.setdefault(fault.partition(":")[0], fault)

    @property
    def grown(self) -> float:
        """Megabytes between the highest resident memory of the first tenth and the last."""
        tenth = max(1, len(self.memory) // 10)
        return (self.memory[-1] - max(self.memory[:tenth])) / MEGABYTE if self.memory else 0.0

    @property
    def problems(self) -> list[str]:
        """Sentences about everything that must not be."""
        found = [f"{self.broken} answers break the contract"] if self.broken else []
        if self.ended:
            found.append(self.ended)
        if self.grown > MOST_GROWN:
            found.append(f"its memory grew by {self.grown:.0f} MB")
        return found


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    add_bundle_argument(parser)
    parser.add_argument("--requests", type=positive, default=100_000, help="in all (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the first shard (default 0)")
    parser.add_argument("--processes", type=positive, help="that send requests (default: the cores)")
    add_markdown_argument(parser)


def run(arguments: argparse.Namespace) -> int:
    """Sends all requests and prints a page; returns the exit code, 1 if anything is not as it must be.

    Raises:
        BenchmarkError: a service does not start, or memory cannot be read.
    """
    shards = max(1, arguments.requests // SHARD // len(SETTINGS))
    processes = arguments.processes or os.cpu_count() or 1
    found = {}
    with tqdm(total=shards * len(SETTINGS), unit="shard", disable=None) as bar:
        for number, name in enumerate(SETTINGS):
            first = arguments.seed + number * shards
            found[name] = _ask(arguments.bundle, name, range(first, first + shards), processes, bar)
    publish(_page(found, arguments, processes), arguments.markdown)
    return int(any(outcome.problems for outcome in found.values()))


def _ask(bundle: Path, name: str, seeds: range, processes: int, bar: tqdm[None]) -> Outcome:
    outcome = Outcome()
    key = SETTINGS[name].get("MSR_API_KEY", "")
    context = multiprocessing.get_context("spawn")  # a fork would take this process's threads' locks along
    with (
        _service(bundle, SETTINGS[name]) as (service, log),
        ProcessPoolExecutor(processes, mp_context=context) as pool,
    ):
        vocabulary = read_vocabulary(service.url, key)
        load_everything(vocabulary)
        for done in as_completed([pool.submit(run_shard, vocabulary, seed, SHARD) for seed in seeds]):
            outcome.add(done.result())
            memory = service.resident_bytes()
            if memory is None:
                raise BenchmarkError("the memory of a process can be read on Linux alone")
            outcome.memory.append(memory)
            bar.update()
        if service.process.poll() is not None:
            outcome.ended = f"it ended with status {service.process.returncode}"
        elif "Traceback" in log.read_text(errors="replace"):
            outcome.ended = f"its log has a traceback: {_last_traceback(log)}"
    return outcome


@contextmanager
def _service(bundle: Path, settings: Mapping[str, str]) -> Iterator[tuple[RunningService, Path]]:
    """Runs a service until the block ends; yields it with the file of its log."""
    port = free_port()
    environment = {**COMMON, "MSR_BUNDLE": str(bundle), "MSR_HOST": HOST, "MSR_PORT": str(port), **settings}
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        with started("service", ["-m", "service"], environment, port, output=log) as process:
            yield RunningService(port, process), log


def _last_traceback(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()
    begins = max(at for at, line in enumerate(lines) if "Traceback" in line)
    return next((line for line in lines[begins + 1 :] if line and not line.startswith(" ")), "cut off")


def _page(found: Mapping[str, Outcome], arguments: argparse.Namespace, processes: int) -> str:
    sentences = [
        *(f"- {name}: {problem}\n" for name, outcome in found.items() for problem in outcome.problems),
        *(f"- {name}: `{fault}`\n" for name, outcome in found.items() for fault in outcome.faults.values()),
    ]
    total = sum(outcome.statuses.total() for outcome in found.values())
    return "\n".join(
        (
            "## Whatever is sent\n",
            machine.describe(machine.facts())
            + f"- {total} requests in shards of {SHARD}, sent by {processes} processes beside the service; "
            + "one in five made by Schemathesis from the service's description, one in twenty of the others "
            + "hardly HTTP\n"
            + f"- command: `{arguments.command_line}`\n",
            _table(found).markdown(),
            "Closed: connections that ended without an answer, which is fine for what is not HTTP or large. "
            "MB are 10^6 bytes of the service's resident memory: the highest in the first tenth of the "
            "shards, and after the last one.\n",
            f"- answers that break the contract: {sum(outcome.broken for outcome in found.values())}\n"
            f"- most MB grown after the first tenth at most {MOST_GROWN:g}: "
            f"{max(outcome.grown for outcome in found.values()):.1f}\n" + "".join(sentences),
        )
    )


def _table(found: Mapping[str, Outcome]) -> Table:
    statuses = sorted({status for outcome in found.values() for status in outcome.statuses if status})
    return Table(
        ("service", *map(str, statuses), "closed", "MB: first tenth", "end"),
        tuple(
            (
                name,
                *(str(outcome.statuses[status]) for status in statuses),
                str(outcome.statuses[0]),
                f"{max(outcome.memory[: max(1, len(outcome.memory) // 10)]) / MEGABYTE:.1f}",
                f"{outcome.memory[-1] / MEGABYTE:.1f}",
            )
            for name, outcome in found.items()
        ),
    )
