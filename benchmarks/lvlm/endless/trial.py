"""Keeps requests to an endless provider under way, and measures the service meanwhile."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.errors import BenchmarkError
from benchmarks.lab.servers import free_port, running, running_service, url_of
from benchmarks.lab.service_client import Reply, ServiceClient
from benchmarks.lab.side_effects import broken_limits
from benchmarks.lab.stats import median
from benchmarks.lvlm.endless.provider import FRAMINGS, GOOD, KINDS
from service.catalogue.bundle import Catalogue

MODES: Mapping[str, tuple[str, ...]] = {
    "stream": tuple(KINDS),
    # The other kinds are sent in the same way whether a stream was asked for or not.
    "plain": ("text", "compressed", "plain", "error-500"),
}
"""Kinds that are tried, by whether the service asks for a stream."""
WIRES = ("openai", "anthropic")
PROVIDERS = {"openai": "endless", "anthropic": "anthropic"}
"""Name of the provider, by wire format."""
UNDER_WAY = tuple((wire, framing) for wire in WIRES for framing in FRAMINGS)
"""Wire format and framing of the requests that are under way at one moment."""
MODELS_PER_KIND = 16
"""Number of models of a kind, asked in turns: the circuit breaker opens for a model that keeps failing."""
DEADLINE = 30.0
"""Seconds of a request's deadline at most."""
K, HISTORY = 10, 10
QUIET_SECONDS = 5
"""Seconds for which ``none`` is asked alone, before the provider gets any request."""
NONE_PAUSE, AGAIN_PAUSE = 0.02, 0.05
"""Seconds between two requests of ``none``, and before a request that has ended is made again."""
LEAVE_TIMEOUT = 10.0
"""Seconds after the last request in which every call must end; one that goes on is a problem."""
MOST_MEGABYTES, MOST_MS = 100.0, 10.0
"""Limits on resident memory above idle, in 10^6 bytes, and on the growth of the median of ``none``, in ms."""

_RIGHT_OUTCOMES = ("ok", "partial", "repaired", "fallback_deadline", "fallback_provider", "fallback_answer")


@dataclass(frozen=True)
class NoneLatencies:
    """Times of requests with strategy ``none``.

    Attributes:
        milliseconds: time of each request in ms; None for one that was not answered with 200 at once.
    """

    milliseconds: tuple[float | None, ...]

    @property
    def answered(self) -> list[float]:
        """Milliseconds of the requests that were answered."""
        return [each for each in self.milliseconds if each is not None]

    @property
    def median(self) -> float:
        """Median of ``answered``; infinite where none was answered."""
        return median(self.answered) if self.answered else float("inf")


@dataclass(frozen=True)
class KindResult:
    """Measurements of one kind of endless answer.

    Attributes:
        outcomes: number of requests to the provider by outcome.
        slowest: seconds past its deadline of the latest answer; negative is early.
        sent: number of bytes that the provider has written.
        memory: peak resident memory above idle, in bytes.
        beside: times of strategy ``none`` meanwhile.
        quiet: times of strategy ``none`` before.
        left: number of connections that the provider still wrote to ``LEAVE_TIMEOUT`` seconds after the last
            request.
    """

    outcomes: Counter[str]
    slowest: float
    sent: int
    memory: int
    beside: NoneLatencies
    quiet: NoneLatencies
    left: int

    @property
    def slower(self) -> float:
        """Milliseconds by which the median of `none` is above the quiet one."""
        return self.beside.median - self.quiet.median

    @property
    def problems(self) -> list[str]:
        """Sentences about everything that is wrong."""
        said = broken_limits(self.memory, self.slower, MOST_MEGABYTES, MOST_MS)
        if unanswered := len(self.beside.milliseconds) - len(self.beside.answered):
            said.append(f"{unanswered} of {len(self.beside.milliseconds)} requests of none got no answer")
        # A fallback or a partial answer is right; an error is not.
        if lost := sum(count for outcome, count in self.outcomes.items() if outcome not in _RIGHT_OUTCOMES):
            said.append(f"{lost} requests on the provider did not end as a fallback or with what had come")
        if not self.outcomes or not self.sent:
            said.append("nothing was sent: nothing was tried")
        if self.left:
            said.append(f"{self.left} calls go on {LEAVE_TIMEOUT:g} s after their requests")
        return said


class Trial:
    """An endless provider, and a service that asks it in one mode."""

    def __init__(self, stack: ExitStack, bundle: Path, mode: str, catalogue: Catalogue) -> None:
        """Starts both, until the stack is closed.

        Raises:
            BenchmarkError: a server does not start.
        """
        port = free_port()
        self._provider = url_of(port)
        self._items = [item.item_id for item in catalogue.items]
        self._draw = random.Random(0)
        module = "benchmarks.lvlm.endless.provider"
        stack.enter_context(running(module, [str(port)], {}, port, None))
        self._service = stack.enter_context(running_service(bundle, _settings(self._provider, mode)))

    async def run(
        self, kinds: Sequence[str], seconds: float, done: Callable[[], object]
    ) -> dict[str, KindResult]:
        """Tries each kind for some seconds, and stops after one that breaks a limit.

        Args:
            kinds: names in ``KINDS``, or the good one.
            seconds: time for each kind.
            done: function that is called when a kind is done.
        """
        found: dict[str, KindResult] = {}
        async with (
            ServiceClient(self._service.url, len(UNDER_WAY), 90.0) as asking,
            ServiceClient(self._service.url) as none,
        ):
            await asking.wait_until_ready()
            await self._none(none, 1.0)  # the SDKs are loaded at the start; the candidate model is warm now
            idle = _known(self._service.resident_bytes())
            brief = min(QUIET_SECONDS, seconds)
            # The same clients on the same machine, without requests to the provider.
            quiet = await self._none(none, brief)
            for kind in kinds:
                result = brief if kind == GOOD else seconds
                found[kind] = await self._try_kind(kind, result, asking, none, idle, quiet)
                done()
                if found[kind].problems:
                    break
        return found

    async def _try_kind(
        self,
        kind: str,
        seconds: float,
        asking: ServiceClient,
        none: ServiceClient,
        idle: int,
        quiet: NoneLatencies,
    ) -> KindResult:
        self._service.reset_peak()
        sent, outcomes = (await self._state())["sent"], Counter[str]()
        end, late = time.monotonic() + seconds, [float("-inf")]

        async def client(number: int, wire: str, framing: str) -> None:
            for turn in itertools.count():
                left = end - time.monotonic()
                if left <= 0:
                    return
                # The deadline of a request is at most the end of its kind.
                deadline = min(DEADLINE, max(left, 0.1))
                # The next model each turn: the breaker of the last one may be open.
                model = f"{kind}.{framing}.{turn % MODELS_PER_KIND}"
                options = {
                    "strategy": "s3", "cache": "off", "provider": PROVIDERS[wire], "model": model,
                }  # fmt: skip
                body = {**self._body(), "deadline_ms": round(1000 * deadline)}
                reply = await asking.recommend(body, options, with_events=(turn + number) % 2 == 1)
                outcomes[_outcome(reply)] += 1
                late.append(reply.seconds - deadline)
                await asyncio.sleep(AGAIN_PAUSE)

        async with asyncio.TaskGroup() as group:
            asked = group.create_task(self._none(none, seconds))
            for number, (wire, framing) in enumerate(UNDER_WAY):
                group.create_task(client(number, wire, framing))
        beside = asked.result()
        peak = _known(self._service.peak_resident_bytes())
        state = await self._state_after_leaving()
        return KindResult(
            outcomes, max(late), state["sent"] - sent, peak - idle, beside, quiet, state["answering"]
        )

    async def _none(self, client: ServiceClient, seconds: float) -> NoneLatencies:
        """Asks strategy `none` for some seconds, one request at a time."""
        took: list[float | None] = []
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            reply = await client.recommend(self._body(), {"strategy": "none"})
            # A request that had to come again was not answered in time.
            good = reply.status == 200 and reply.attempts == 1
            took.append(1000 * reply.seconds if good else None)
            await asyncio.sleep(NONE_PAUSE)
        return NoneLatencies(tuple(took))

    async def _state_after_leaving(self) -> dict[str, int]:
        """Reads the provider's state once it writes to no connection, or after ``LEAVE_TIMEOUT`` seconds."""
        end = time.monotonic() + LEAVE_TIMEOUT
        state = await self._state()
        while state["answering"] and time.monotonic() < end:
            await asyncio.sleep(0.1)
            state = await self._state()
        return state

    async def _state(self) -> dict[str, int]:
        return await asyncio.to_thread(_read, self._provider)

    def _body(self) -> dict[str, Any]:
        return {"history": self._draw.sample(self._items, HISTORY), "k": K}


def _settings(provider: str, mode: str) -> dict[str, str]:
    models = [
        f"{kind}.{framing}.{n}"
        for kind in (GOOD, *KINDS)
        for framing in FRAMINGS
        for n in range(MODELS_PER_KIND)
    ]
    compatible = {PROVIDERS["openai"]: {"base_url": f"{provider}/v1", "models": models}}
    return {
        "MSR_PROVIDER": PROVIDERS["openai"],
        "MSR_MODEL": "",
        "MSR_COMPATIBLE": json.dumps(compatible),
        "ANTHROPIC_API_KEY": "rehearsal",
        "MSR_ANTHROPIC_BASE_URL": provider,
        "MSR_ANTHROPIC_MODELS": ",".join(models),
        "MSR_LVLM_STREAM": str(mode == "stream").lower(),
        # A second attempt would be one more endless answer under way.
        "MSR_LVLM_HEDGE": "0",
        "MSR_LOG_LEVEL": "error",
    }


def _known(memory: int | None) -> int:
    if memory is None:
        raise BenchmarkError("this system does not tell the memory of a process: /proc is needed")
    return memory


def _outcome(reply: Reply) -> str:
    """Returns the outcome of a request, else what went wrong."""
    return str(reply.body.get("outcome") or reply.error or reply.status)


def _read(url: str) -> dict[str, int]:
    with urllib.request.urlopen(url, timeout=30) as response:  # noqa: S310 - our own server
        state: dict[str, int] = json.load(response)
        return state
