"""Measures a crowd of clients that ask a service at the same moment, while its LVLM is slow."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.errors import BenchmarkError
from benchmarks.lab.load_generator import encode_post
from benchmarks.lab.rounds import Limit
from benchmarks.lab.servers import HOST, RunningService, running_service
from benchmarks.lab.service_client import ServiceClient
from benchmarks.lab.simulator_control import running_simulator
from benchmarks.lab.stats import median

PATH = "/recommend?strategy=s3"
HISTORY, K = 10, 10
"""Number of items in a history, and in an answer."""
FIRST_TOKEN, TOKENS_PER_SECOND = 4.2, 60  # with an answer of 48 tokens: 4.2 s + 48 / 60 s = 5 s
HELD_TOKEN = 20.0
"""Seconds to the first token if all calls must be in flight together: the last one arrives long before."""
DEADLINE_MS = 60_000
"""Milliseconds, far above the slowest answer: a late answer is measured, not cut."""
WAIT_SECONDS = 90.0
"""Seconds for the service to become ready, and for all answers; after them the measurement fails."""
READ_AHEAD = 2**20
"""Bytes of an answer that asyncio buffers for a client; a longer head would be an error."""
MEGABYTE = 10**6


@dataclass(frozen=True)
class Crowd:
    """Clients that ask at the same moment.

    Attributes:
        name: name in the table.
        clients: number of clients, with a request each.
        limit: limit on the median over rounds, besides the counts that are checked in every round; None for
            no such limit.
        same: whether all requests are equal, so that one call must serve them all.
        together: whether all calls must be in flight at one moment.
        settings: environment variables of the service, beside the common ones.
        first_token: seconds until the LVLM begins to answer.
    """

    name: str
    clients: int
    limit: Limit | None = None
    same: bool = False
    together: bool = False
    settings: Mapping[str, str] = field(default_factory=dict)
    first_token: float = FIRST_TOKEN

    @property
    def calls(self) -> int:
        """Number of calls that the provider must receive."""
        return 1 if self.same else self.clients


@dataclass(frozen=True)
class CrowdResult:
    """Times and counts of one round of a crowd.

    Attributes:
        slowest: seconds until the last answer.
        latency: median seconds of a call in the simulator.
        calls: number of calls that the simulator received.
        peak: highest number of calls in flight in the simulator at one moment.
        megabytes: peak resident memory above idle, in units of 10^6 bytes; None with several workers.
        ordered: number of answers that the LVLM ordered.
    """

    slowest: float
    latency: float
    calls: int
    peak: int
    megabytes: float | None
    ordered: int


def bodies_of(items: Sequence[str], crowd: Crowd, seed: int) -> list[bytes]:
    """Makes the requests' bodies, with histories drawn anew in every round, so that no cache has them."""
    # The time is a part of the seed: a Redis that keeps running has cached the answers of earlier runs.
    draw = random.Random(f"{crowd.name} {seed} {time.time_ns()}")

    def body() -> bytes:
        history = draw.sample(items, min(HISTORY, len(items) - 1))
        return json.dumps({"history": history, "k": K, "deadline_ms": DEADLINE_MS}).encode()

    return [body()] * crowd.clients if crowd.same else [body() for _ in range(crowd.clients)]


def measure(bundle: Path, crowd: Crowd, bodies: Sequence[bytes]) -> CrowdResult:
    """Measures one round of a crowd, on a simulator and a service of its own.

    Args:
        bundle: folder that is served.
        crowd: clients and what is expected of them.
        bodies: JSON bodies of the requests, one for each client.

    Raises:
        BenchmarkError: a server does not start, or an answer is no 200.
    """
    pace = ["--ttft", str(crowd.first_token), "--tokens-per-second", str(TOKENS_PER_SECOND)]
    # With several workers the main process only supervises: its memory says nothing.
    alone = crowd.settings.get("MSR_WORKERS", "1") == "1"
    with (
        running_simulator(*pace) as simulator,
        running_service(bundle, {**_settings(simulator.url), **crowd.settings}) as service,
    ):
        asyncio.run(_warm_up(service, bodies[0]))
        simulator.clear_ledger()  # of the warm-up
        idle = service.resident_bytes() if alone else None
        answers = asyncio.run(_ask_all(service.port, bodies, PATH))
        # The peak is that of the whole life of the process; the warm-up stays far below it.
        peak = service.peak_resident_bytes() if alone else None
        calls = simulator.ended_calls()
        in_flight = simulator.peak_in_flight()
    return CrowdResult(
        slowest=max(seconds for seconds, _ in answers),
        latency=median([call["seconds"] for call in calls]),
        calls=len(calls),
        peak=in_flight,
        megabytes=None if idle is None or peak is None else (peak - idle) / MEGABYTE,
        ordered=sum(answer["served"] == "s3" for _, answer in answers),
    )


def _settings(simulator: str) -> dict[str, str]:
    return {"MSR_PROVIDER": "simulator", "MSR_SIMULATOR_URL": simulator, "MSR_LOG_LEVEL": "warning"}


async def _warm_up(service: RunningService, body: bytes) -> None:
    """Waits until the service is ready, and lets a first call load and connect everything."""
    async with ServiceClient(service.url) as client:
        await client.wait_until_ready(WAIT_SECONDS)
    await _ask_all(service.port, [body], f"{PATH}&cache=off")


async def _ask_all(port: int, bodies: Sequence[bytes], path: str) -> list[tuple[float, dict[str, Any]]]:
    """Sends all requests at the same moment, each over its own connection; returns seconds and answers."""
    # Opened before the clock starts, so that connecting is not measured.
    connections = [await asyncio.open_connection(HOST, port, limit=READ_AHEAD) for _ in bodies]

    async def ask(
        connection: tuple[asyncio.StreamReader, asyncio.StreamWriter], body: bytes
    ) -> tuple[float, dict[str, Any]]:
        reader, writer = connection
        began = time.perf_counter()
        # Not drained: a request is smaller than the socket's buffer.
        writer.write(encode_post(f"{HOST}:{port}", path, body))
        head = await reader.readuntil(b"\r\n\r\n")
        fields = head.lower().split(b"\r\n")
        length = next((int(f.split(b":")[1]) for f in fields if f.startswith(b"content-length:")), 0)
        # The service answers JSON with a Content-Length, never in chunks.
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
