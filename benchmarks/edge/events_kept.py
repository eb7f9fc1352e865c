"""Command ``kept``: kills processes while events come, fills the disk, and counts the events of a second.

Each acknowledged event must be there exactly once, in its place, and seen by each request that begins after
the acknowledgement, whichever worker answers it. On a full disk batches are refused with 507, nothing is
lost, and the service goes on when there is room.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import orjson
from tqdm import tqdm

from benchmarks.edge.kill_rounds import KillRound, RoundResult
from benchmarks.edge.killed_services import EventsRedis, KilledService, redis_binary
from benchmarks.errors import BenchmarkError
from benchmarks.lab.options import add_bundle_argument, bundle_of, positive
from benchmarks.lab.pages import add_markdown_argument, publish
from benchmarks.lab.servers import running_service
from benchmarks.lab.service_client import ServiceClient
from benchmarks.lab.stats import median
from models import machine
from models.contracts import Item
from models.printed_table import NO_VALUE, Table

LEAST_EVENTS_PER_SECOND = 10_000
"""Events that two workers must store in a second, in batches of ``BATCH``."""

BATCH = 1_000
"""Events of a batch whose throughput is measured."""

JSON = {"content-type": "application/json"}

POSTERS = 8
"""Batches under way at once in that measurement."""

SMALL_DISK_MEGABYTES = 6
"""Size of the file system that is filled."""

ONE, WORKER, PARENT, REDIS = KINDS = (
    "one process", "a worker of two", "the parent of two", "the Redis of events",
)  # fmt: skip
"""What is killed."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    add_bundle_argument(parser)
    parser.add_argument("--rounds", type=positive, default=20, help="kills of each kind (default 20)")
    parser.add_argument("--seconds", type=positive, default=10, help="of each throughput (default 10)")
    parser.add_argument("--seed", type=int, default=1, help="of batches and moments (default 1)")
    add_markdown_argument(parser)


def run(arguments: argparse.Namespace) -> int:
    """Measures and prints; returns the exit code, 1 if an event was lost or a limit is broken.

    Raises:
        BenchmarkError: a service does not start, or does not answer for a minute.
    """
    items = bundle_of(arguments).catalogue.items
    kinds = [kind for kind in KINDS if kind != REDIS or redis_binary() is not None]
    killed: dict[str, list[RoundResult]] = {}
    with tqdm(total=arguments.rounds * len(kinds) + 3, unit="round", disable=None) as bar:
        for kind in kinds:
            killed[kind] = kill_rounds(
                kind, arguments.bundle, items, arguments.rounds, arguments.seed, bar.update
            )
        rates = {}
        for workers in (1, 2):
            rates[workers] = events_per_second(arguments.bundle, items, workers, arguments.seconds)
            bar.update(1)
        disk = full_disk(arguments.bundle, items)
        bar.update(1)
    publish(_page(killed, rates, disk, arguments), arguments.markdown)
    lost = any(each.faults for results in killed.values() for each in results)
    return int(lost or rates[2] < LEAST_EVENTS_PER_SECOND or bool(disk and disk.faults))


def kill_rounds(
    kind: str,
    bundle: Path,
    items: Sequence[Item],
    rounds: int,
    seed: int,
    done: Callable[[int], object] = lambda count: None,
) -> list[RoundResult]:
    """Kills one kind of process in each round, on one data folder for all of them.

    Args:
        kind: one of ``KINDS``.
        bundle: folder that is served.
        items: items of the bundle.
        rounds: number of kills.
        seed: seed of batches and moments.
        done: function that is told of each finished round.
    """
    ids = [item.item_id for item in items]
    with ExitStack() as stack:
        settings = {
            "MSR_DATA": stack.enter_context(tempfile.TemporaryDirectory(prefix="msr-kept-")),
            "MSR_WORKERS": "1" if kind == ONE else "2",
        }
        redis = EventsRedis(Path(settings["MSR_DATA"]), stack) if kind == REDIS else None
        if redis is not None:
            settings["MSR_EVENTS_URL"] = redis.url
        service = KilledService(bundle, settings, stack)
        kill = service.kill_worker if kind == WORKER else service.kill_all if redis is None else redis.kill
        results = []
        for number in range(rounds):
            draw = random.Random(f"{seed} {kind} {number}")
            results.append(asyncio.run(KillRound(number, ids, lambda: service.url, kill, draw).run()))
            done(1)
        if kind == REDIS and (Path(settings["MSR_DATA"]) / "events").exists():
            raise BenchmarkError("the events were not in their Redis: the service has made a file of them")
    return results


def events_per_second(bundle: Path, items: Sequence[Item], workers: int, seconds: float) -> float:
    """Returns how many events a second a service stores that is given batches all the time.

    Args:
        bundle: folder that is served.
        items: items of the bundle.
        workers: worker processes of the service, which share the cores with the client.
        seconds: length of the measurement.
    """

    async def measure(url: str) -> float:
        end = time.perf_counter() + seconds
        began = time.perf_counter()

        async def post(poster: int) -> int:
            stored = number = 0
            # A connection of each poster's own: the workers share the connections.
            async with httpx.AsyncClient(headers=JSON, timeout=30, trust_env=False) as http:
                while time.perf_counter() < end:
                    answer = await http.post(f"{url}/events", content=_batch(items, poster, number))
                    if answer.status_code != 200:
                        raise BenchmarkError(f"a batch was answered with {answer.status_code}: {answer.text}")
                    stored += answer.json()["stored"]
                    number += 1
            return stored

        stored = sum(await asyncio.gather(*map(post, range(POSTERS))))
        return stored / (time.perf_counter() - began)

    with running_service(bundle, {"MSR_WORKERS": str(workers)}) as service:
        asyncio.run(_ready(service.url))
        return asyncio.run(measure(service.url))


def _batch(items: Sequence[Item], poster: int, number: int) -> bytes:
    """Returns the body of a batch: 100 users take 10 items each."""
    return orjson.dumps(
        {
            "events": [
                {
                    "user_id": f"user-{(poster * 7_919 + number * 100 + n // 10) % 50_000}",
                    "item_id": items[(number + n) % len(items)].item_id,
                    "timestamp": 1_700_000_000 + number * BATCH + n,
                    "event_id": f"{poster}-{number}-{n}",
                }
                for n in range(BATCH)
            ]
        }
    )


@dataclass(frozen=True)
class FullDisk:
    """What a full disk did.

    Attributes:
        stored: events that were stored before it was full.
        refused: batches that were refused with 507.
        later: events that were stored when there was room again.
        faults: sentences about what was not as it must be.
    """

    stored: int
    refused: int
    later: int
    faults: Sequence[str]


def full_disk(bundle: Path, items: Sequence[Item]) -> FullDisk | None:
    """Fills a small file system with events, makes room, and checks; None where none can be mounted."""
    with ExitStack() as stack:
        data = stack.enter_context(_small_disk())
        if data is None:
            return None
        ballast = data / "ballast"
        ballast.write_bytes(b"\0" * (SMALL_DISK_MEGABYTES * 1_000_000 // 2))
        settings = {"MSR_DATA": str(data), "MSR_WORKERS": "2", "MSR_LOG_LEVEL": "error"}
        service = stack.enter_context(running_service(bundle, settings))
        asyncio.run(_ready(service.url))
        http = stack.enter_context(
            httpx.Client(
                base_url=service.url,
                timeout=30,
                trust_env=False,
                limits=httpx.Limits(max_keepalive_connections=0),
            )
        )
        counts: dict[str, int] = {}
        faults: list[str] = []

        def fill() -> int:
            """Sends to users in turn until twenty batches in a row are refused; returns those refused."""
            refused = number = 0
            while refused < 20 and number < 2_000:
                user_id = f"user-{number % 100}"
                first = counts.get(user_id, 0)
                batch = [
                    {
                        "user_id": user_id,
                        "item_id": items[n % len(items)].item_id,
                        "timestamp": n + 1,
                        "event_id": f"{n}".rjust(100, "0"),
                    }
                    for n in range(first, first + 100)
                ]
                answer = http.post("/events", json={"events": batch})
                number += 1
                if answer.status_code == 200:
                    counts[user_id] = first + 100
                    refused = 0
                elif answer.status_code == 507:
                    refused += 1
                else:
                    faults.append(f"a batch was answered with {answer.status_code}: {answer.text[:200]}")
                    refused += 1
            return refused

        def check(when: str) -> None:
            for user_id, count in counts.items():
                answer = http.get(f"/users/{user_id}/history").json()
                found = [item["item_id"] for item in answer["items"]]
                wanted = [items[n % len(items)].item_id for n in range(count)]
                if found != wanted or answer["warnings"]:
                    faults.append(f"{when}: {user_id} has {len(found)} of {count} events")

        refused = fill()
        stored = sum(counts.values())
        check("full")
        ballast.unlink()
        fill()
        check("with room again")
        return FullDisk(stored, refused, sum(counts.values()) - stored, faults)


@contextmanager
def _small_disk() -> Iterator[Path | None]:
    """Mounts a small file system in memory; None where this account may not."""
    with tempfile.TemporaryDirectory(prefix="msr-small-") as folder:
        options = f"size={SMALL_DISK_MEGABYTES}m"
        mount, umount = shutil.which("mount"), shutil.which("umount")
        if not mount or not umount:
            yield None
            return
        command = [mount, "-t", "tmpfs", "-o", options, "tmpfs", folder]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            yield None
            return
        try:
            yield Path(folder)
        finally:
            subprocess.run([umount, folder], check=True)


async def _ready(url: str) -> None:
    """Waits until the service is ready, for a minute at most."""
    async with ServiceClient(url) as client:
        await client.wait_until_ready()


def _page(
    killed: dict[str, list[RoundResult]],
    rates: dict[int, float],
    disk: FullDisk | None,
    arguments: argparse.Namespace,
) -> str:
    faults = [
        f"- {kind}, round {number}: {fault}\n"
        for kind, results in killed.items()
        for number, each in enumerate(results)
        for fault in each.faults
    ]
    faults += [f"- full disk: {fault}\n" for fault in disk.faults] if disk else []
    full = "not measured, since this account may not mount one"
    if disk:
        full = (
            f"{disk.stored} events, then 507 for {disk.refused} batches in a row and all of them still "
            f"there; {disk.later} more when there was room again"
        )
    return "\n".join(
        (
            "## Events that are kept\n",
            machine.describe(machine.facts()) + f"- command: `{arguments.command_line}`\n",
            _table(killed).markdown(),
            "Killed by SIGKILL at a random moment of a stream of batches, once a round. Sent again: batches "
            "whose answer was lost. Read: histories that were read just after an acknowledgement, on a new "
            "connection, so that either worker may answer; each must be exactly what was acknowledged, as at "
            "the end of the round. Seconds: from the kill to the next acknowledgement.\n",
            f"- events a second in batches of {BATCH}, {POSTERS} at once, two workers, at least "
            f"{LEAST_EVENTS_PER_SECOND}: {rates[2]:.0f} (one worker: {rates[1]:.0f}); service and client "
            "share the cores\n"
            f"- a full disk of {SMALL_DISK_MEGABYTES} MB: {full}\n"
            f"- faults: {len(faults)}\n" + "".join(faults),
        )
    )


def _table(killed: dict[str, list[RoundResult]]) -> Table:
    rows = [
        (
            kind,
            str(len(results)),
            str(sum(each.events for each in results)),
            str(sum(each.again for each in results)),
            str(sum(each.reads for each in results)),
            f"{median([each.seconds for each in results]):.1f}" if results else NO_VALUE,
            str(sum(len(each.faults) for each in results)),
        )
        for kind, results in killed.items()
    ]
    return Table(("killed", "rounds", "events", "sent again", "read", "seconds p50", "faults"), tuple(rows))
