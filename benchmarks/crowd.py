"""``crowd``: many clients at once on a slow LVLM: who is answered when, with what memory and how many calls.

Whatever a scene is about, the LVLM must have ordered every client's answer, with a call for each (or with one
for all, where all ask the same).

Starts its own simulator and service. One worker unless the scene says two.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks import machine
from benchmarks.errors import BenchmarkError
from benchmarks.files import write_text
from benchmarks.load import encode_post
from benchmarks.memory import NOW, PEAK, resident
from benchmarks.options import add_bundle_argument, bundle_of, positive
from benchmarks.rounds import Limit, Ratio
from benchmarks.servers import free_port, running
from benchmarks.stats import median
from benchmarks.tables import UNKNOWN, Table

HOST = "127.0.0.1"
PATH = "/recommend?strategy=s3"
HISTORY, K = 10, 10
FIRST_TOKEN, TOKENS_PER_SECOND = 4.2, 60  # with an answer of 48 tokens: five seconds
HELD_TOKEN = 20.0
"""Seconds to the first token where all calls must be in flight together: the last one is long there."""
DEADLINE_MS = 60_000
WAIT_SECONDS = 90.0
READ_AHEAD = 2**20
"""Bytes of an answer that a client holds at most before it has read them."""
MEGABYTE = 10**6

LATE = Limit("slowest answer by the simulator's latency", most=1.5)
MEMORY = Limit("MB above idle", most=300)


@dataclass(frozen=True)
class Scene:
    """One crowd.

    Attributes:
        name: for the table.
        clients: that ask at the same moment.
        limit: what its median is held to, beside what every round of every scene is held to.
        same: whether all ask the same.
        together: whether all calls must be in flight at one moment.
        settings: of the service, beside the common ones.
        first_token: seconds until the LVLM begins to answer.
    """

    name: str
    clients: int
    limit: Limit | None = None
    same: bool = False
    together: bool = False
    settings: Mapping[str, str] | None = None
    first_token: float = FIRST_TOKEN

    @property
    def calls(self) -> int:
        """That the provider must get."""
        return 1 if self.same else self.clients


@dataclass(frozen=True)
class Seen:
    """What one round of a scene came to.

    Attributes:
        slowest: seconds of the last answer.
        latency: seconds of a call in the simulator, the median.
        calls: that the simulator got.
        peak: the most calls that were in flight in the simulator at one moment.
        megabytes: peak resident memory above idle, in units of 10^6 bytes; None with several workers.
        ordered: answers that the LVLM ordered.
    """

    slowest: float
    latency: float
    calls: int
    peak: int
    megabytes: float | None
    ordered: int


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_bundle_argument(parser)
    parser.add_argument("--clients", type=positive, default=200, help="that are timed (default 200)")
    parser.add_argument(
        "--in-flight", type=positive, default=1000, help="for memory and for equal requests (default 1000)"
    )
    parser.add_argument("--rounds", type=positive, default=3, help="of every scene (default 3)")
    parser.add_argument("--redis-url", help="a running Redis, for the scene with two workers")
    parser.add_argument("--markdown", type=Path, help="also write the page to this file")


def run(arguments: argparse.Namespace) -> int:
    """Measure and print; returns the exit code, 1 when a scene was not as it must be.

    Raises:
        BenchmarkError: a server does not start, or an answer is no 200.
    """
    scenes = _scenes(arguments)
    items = [item.item_id for item in bundle_of(arguments).catalogue.items]
    found: dict[str, list[Seen]] = {scene.name: [] for scene in scenes}
    with tqdm(total=len(scenes) * arguments.rounds, unit="crowd", disable=None) as bar:
        for number in range(arguments.rounds):
            for scene in scenes:
                bodies = _bodies(items, scene, seed=number)
                found[scene.name].append(play(arguments.bundle, scene, bodies))
                bar.update()
    return report(scenes, found, arguments)


def report(
    scenes: Sequence[Scene], found: Mapping[str, Sequence[Seen]], arguments: argparse.Namespace
) -> int:
    """Print what was found; returns the exit code."""
    page = _page(scenes, found, arguments)
    sys.stdout.write(page)
    if arguments.markdown:
        write_text(arguments.markdown, page)
    return int(any(not verdict.met for scene in scenes for verdict in verdicts(scene, found[scene.name])))


def _scenes(arguments: argparse.Namespace) -> list[Scene]:
    many = arguments.in_flight
    unlimited = {"MSR_LVLM_CONCURRENCY": str(many)}
    scenes = [
        Scene(f"{arguments.clients} clients at once", arguments.clients, LATE),
        Scene(
            f"{many} calls in flight",
            many,
            MEMORY,
            together=True,
            settings=unlimited,
            first_token=HELD_TOKEN,
        ),
        Scene(f"{many} equal requests", many, same=True),
    ]
    if arguments.redis_url:
        shared = {"MSR_WORKERS": "2", "MSR_REDIS_URL": arguments.redis_url}
        name = f"{many} equal requests, 2 workers, Redis"
        scenes.append(Scene(name, many, same=True, settings=shared))
    return scenes


def _bodies(items: Sequence[str], scene: Scene, seed: int) -> list[bytes]:
    """Requests that no cache knows: histories drawn anew in every round."""
    draw = random.Random(f"{scene.name} {seed} {time.time_ns()}")

    def body() -> bytes:
        history = draw.sample(items, min(HISTORY, len(items) - 1))
        return json.dumps({"history": history, "k": K, "deadline_ms": DEADLINE_MS}).encode()

    return [body()] * scene.clients if scene.same else [body() for _ in range(scene.clients)]


def play(bundle: Path, scene: Scene, bodies: Sequence[bytes]) -> Seen:
    """One round of a scene, on a simulator and a service of its own.

    Args:
        bundle: that is served.
        scene: to play.
        bodies: of the requests, one for each client.

    Raises:
        BenchmarkError: a server does not start, or an answer is no 200.
    """
    simulator, service = free_port(), free_port()
    address = f"http://{HOST}:{simulator}"
    settings = {
        "MSR_BUNDLE": str(bundle),
        "MSR_HOST": HOST,
        "MSR_PORT": str(service),
        "MSR_WORKERS": "1",
        "MSR_API_KEY": "",
        "MSR_REDIS_URL": "",
        "MSR_PROVIDER": "simulator",
        "MSR_SIMULATOR_URL": address,
        "MSR_LOG_LEVEL": "warning",
        **(scene.settings or {}),
    }
    pace = ["--ttft", str(scene.first_token), "--tokens-per-second", str(TOKENS_PER_SECOND)]
    with (
        running("service.simulator", ["--port", str(simulator), *pace], {}, simulator, None),
        running("service", [], settings, service, None) as process,
    ):
        _until_ready(service)
        asyncio.run(_ask_all(service, bodies[:1], f"{PATH}&cache=off"))  # the first call warms everything up
        _forget(address)
        alone = settings["MSR_WORKERS"] == "1"
        idle = resident(process.pid, NOW) if alone else None
        answers = asyncio.run(_ask_all(service, bodies, PATH))
        peak = resident(process.pid, PEAK) if alone else None
        calls = _ended_calls(address)
        in_flight = _read_json(f"{address}/health")["peak_in_flight"]
    return Seen(
        slowest=max(seconds for seconds, _ in answers),
        latency=median([call["seconds"] for call in calls]),
        calls=len(calls),
        peak=in_flight,
        megabytes=None if idle is None or peak is None else (peak - idle) / MEGABYTE,
        ordered=sum(answer["served"] == "s3" for _, answer in answers),
    )


def _ended_calls(address: str) -> list[dict[str, Any]]:
    """The simulator's calls, once it has closed the books of the last one: an answer may be there before."""
    while True:
        calls: list[dict[str, Any]] = _read_json(f"{address}/ledger")
        if all(call["seconds"] is not None for call in calls):
            return calls
        time.sleep(0.02)


async def _ask_all(port: int, bodies: Sequence[bytes], path: str) -> list[tuple[float, dict[str, Any]]]:
    """Send all requests at the same moment, each over a connection of its own."""
    connections = [await asyncio.open_connection(HOST, port, limit=READ_AHEAD) for _ in bodies]

    async def ask(
        connection: tuple[asyncio.StreamReader, asyncio.StreamWriter], body: bytes
    ) -> tuple[float, dict[str, Any]]:
        reader, writer = connection
        began = time.perf_counter()
        writer.write(encode_post(f"{HOST}:{port}", path, body))
        head = await reader.readuntil(b"\r\n\r\n")
        fields = head.lower().split(b"\r\n")
        length = next((int(f.split(b":")[1]) for f in fields if f.startswith(b"content-length:")), 0)
        content = await reader.readexactly(length)
        seconds = time.perf_counter() - began
        writer.close()
        if b" 200 " not in fields[0]:
            raise BenchmarkError(f"the service answered {fields[0].decode()}: {content[:200]!r}")
        answer: dict[str, Any] = json.loads(content)
        return seconds, answer

    try:
        async with asyncio.timeout(WAIT_SECONDS):
            return await asyncio.gather(*map(ask, connections, bodies))
    except (TimeoutError, OSError, asyncio.IncompleteReadError) as error:
        raise BenchmarkError(f"the service leaves clients without an answer: {error!r}") from error


def _until_ready(port: int) -> None:
    end = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < end:
        try:
            _read_json(f"http://{HOST}:{port}/health/ready")
        except BenchmarkError:
            time.sleep(0.05)
        else:
            return
    raise BenchmarkError("the service did not become ready")


def _read_json(url: str) -> Any:
    try:
        with urllib.request.urlopen(url, timeout=30) as response:  # noqa: S310 - our own servers
            return json.load(response)
    except OSError as error:
        raise BenchmarkError(f"{url} does not answer: {error}") from error


def _forget(address: str) -> None:
    request = urllib.request.Request(f"{address}/ledger", method="DELETE")  # noqa: S310 - our own server
    with urllib.request.urlopen(request, timeout=30):  # noqa: S310
        pass


@dataclass(frozen=True)
class Verdict:
    """A sentence that says what a scene was held to and whether it met it, and the same for the exit code."""

    sentence: str
    met: bool


def verdicts(scene: Scene, rounds: Sequence[Seen]) -> list[Verdict]:
    """What every round was held to, and what the median over rounds was."""
    said = [
        _always("answers ordered by the LVLM", scene.clients, [seen.ordered for seen in rounds]),
        _always("provider calls", scene.calls, [seen.calls for seen in rounds]),
    ]
    if scene.together:
        said.append(_always("calls in flight at one moment", scene.clients, [seen.peak for seen in rounds]))
    if scene.limit:
        held = _lateness(rounds) if scene.limit is LATE else _memory(rounds)
        said.append(Verdict(scene.limit.verdict(held), not scene.limit.broken_by(held)))
    return said


def _always(what: str, wanted: int, seen: Sequence[int]) -> Verdict:
    low, high = min(seen), max(seen)
    met = low == wanted == high
    return Verdict(f"{what}, {wanted} in every round: {low}–{high}, {'met' if met else 'not met'}", met)


def _lateness(rounds: Sequence[Seen]) -> Ratio:
    return Ratio.of([seen.slowest for seen in rounds], [seen.latency for seen in rounds])


def _memory(rounds: Sequence[Seen]) -> Ratio | None:
    return _spread([seen.megabytes for seen in rounds])


def _page(scenes: Sequence[Scene], found: Mapping[str, Sequence[Seen]], arguments: argparse.Namespace) -> str:
    rows = []
    for scene in scenes:
        rounds = found[scene.name]
        late, memory = _lateness(rounds), _memory(rounds)
        rows.append(
            (
                scene.name,
                str(min(seen.ordered for seen in rounds)),
                f"{median([seen.latency for seen in rounds]):.2f}",
                f"{median([seen.slowest for seen in rounds]):.2f}",
                f"{late} ({late.spread})",
                UNKNOWN if memory is None else f"{memory.median:.0f} ({memory.low:.0f}–{memory.high:.0f})",
                _figures([seen.calls for seen in rounds]),
                _figures([seen.peak for seen in rounds]),
            )
        )
    columns = (
        "scene",
        "ordered by the LVLM",
        "simulator s",
        "slowest answer s",
        "slowest / simulator",
        "MB above idle",
        "provider calls",
        "in flight at one moment",
    )
    said = [(scene, verdict) for scene in scenes for verdict in verdicts(scene, found[scene.name])]
    return "\n".join(
        (
            "## Crowds on an LVLM that takes five seconds\n",
            machine.describe(machine.facts())
            + f"- {arguments.rounds} rounds of every scene; service, simulator and clients share the cores\n"
            + f"- command: `{arguments.command_line}`\n",
            Table(columns, tuple(rows)).markdown(),
            "Medians over rounds, extremes in brackets; MB are 10^6 bytes. Every client has a connection of "
            "its own; all send at the same moment and get 200. Where memory is measured, the LVLM takes "
            f"{HELD_TOKEN:g} s to begin, so that the last call is in flight before the first one ends.\n",
            "\n".join(f"- {scene.name}: {verdict.sentence}" for scene, verdict in said) + "\n",
        )
    )


def _figures(counts: Sequence[int]) -> str:
    return f"{median(counts):g} ({min(counts)}–{max(counts)})"


def _spread(values: Sequence[float | None]) -> Ratio | None:
    known = [value for value in values if value is not None]
    return Ratio(median(known), min(known), max(known)) if len(known) == len(values) else None
