"""``endless``: providers that never end, beside the memory of the service and its other answers.

For each kind of what is sent without end, four requests are under way on it, over both wire formats, in
chunks and until the connection closes; each is made again when it ends. Beside them `none` is asked all the
time. Two limits hold for each kind: the service's resident memory above idle, and the median time of `none`
above the quiet one. The first line is of good answers, for comparison.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import random
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks import machine
from benchmarks.client import Reply, ServiceClient
from benchmarks.endless_server import FRAMINGS, GOOD, KINDS
from benchmarks.errors import BenchmarkError
from benchmarks.files import write_text
from benchmarks.memory import NOW, PEAK, forget_peak, resident
from benchmarks.options import add_bundle_argument, bundle_of, positive
from benchmarks.servers import free_port, running
from benchmarks.stats import median, percentile
from benchmarks.tables import Table
from service.catalogue.bundle import Catalogue

HOST = "127.0.0.1"
MODES: Mapping[str, tuple[str, ...]] = {
    "stream": tuple(KINDS),
    # A head has no mode, and what is not asked for comes no differently.
    "plain": ("text", "compressed", "plain", "error-500"),
}
"""How the service asks -> the kinds that are tried so."""
WIRES = ("openai", "anthropic")
PROVIDERS = {"openai": "endless", "anthropic": "anthropic"}
"""Wire -> name of the provider that speaks it."""
UNDER_WAY = tuple((wire, framing) for wire in WIRES for framing in FRAMINGS)
"""The requests of one moment."""
SPARE = 16
"""Models of a kind, asked in turns: one that keeps failing is left alone by the breaker."""
DEADLINE = 30.0
K, HISTORY = 10, 10
QUIET_SECONDS = 5
NONE_PAUSE, AGAIN_PAUSE = 0.02, 0.05
"""Seconds between two requests of `none`, and before a request that has ended is made again."""
LEAVING = 10.0
"""Seconds in which the last call must have ended after its request."""
MEGABYTE = 10**6
MOST_MEGABYTES, MOST_MS = 100.0, 10.0


@dataclass(frozen=True)
class Beside:
    """What `none` took, in milliseconds; None stands for a request without a 200."""

    milliseconds: tuple[float | None, ...]

    @property
    def answered(self) -> list[float]:
        """Of those that were answered."""
        return [each for each in self.milliseconds if each is not None]

    @property
    def median(self) -> float:
        """Of those that were answered; endless where none was."""
        return median(self.answered) if self.answered else float("inf")


@dataclass(frozen=True)
class Stretch:
    """What one kind came to.

    Attributes:
        outcomes: of the requests on the endless provider.
        slowest: seconds past its deadline of the latest answer; negative is early.
        sent: bytes that the provider got rid of.
        memory: resident bytes above idle, at the most.
        beside: `none` meanwhile.
        quiet: `none` before.
        left: connections that the provider still wrote to when all requests had ended for a while.
    """

    outcomes: Counter[str]
    slowest: float
    sent: int
    memory: int
    beside: Beside
    quiet: Beside
    left: int

    @property
    def slower(self) -> float:
        """Milliseconds of the median of `none` above the quiet one."""
        return self.beside.median - self.quiet.median

    @property
    def wrong(self) -> list[str]:
        """A sentence for everything that is wrong."""
        said = []
        if self.memory > MOST_MEGABYTES * MEGABYTE:
            said.append(f"{self.memory / MEGABYTE:.0f} MB above idle, at most {MOST_MEGABYTES:g}")
        if self.slower > MOST_MS:
            said.append(f"none is {self.slower:.1f} ms slower in the median, at most {MOST_MS:g}")
        if unanswered := len(self.beside.milliseconds) - len(self.beside.answered):
            said.append(f"{unanswered} of {len(self.beside.milliseconds)} requests of none got no answer")
        if lost := sum(count for outcome, count in self.outcomes.items() if outcome not in _SAID):
            said.append(f"{lost} requests on the provider did not end as a fallback or with what had come")
        if not self.outcomes or not self.sent:
            said.append("nothing was sent: nothing was tried")
        if self.left:
            said.append(f"{self.left} calls go on {LEAVING:g} s after their requests")
        return said


_SAID = ("ok", "partial", "repaired", "fallback_deadline", "fallback_provider", "fallback_answer")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_bundle_argument(parser)
    parser.add_argument("--seconds", type=positive, default=30, help="for each kind (default 30)")
    parser.add_argument("--kinds", help=f"comma-separated (default all): {','.join(KINDS)}")
    parser.add_argument("--modes", default=",".join(MODES), help="how to ask (default %(default)s)")
    parser.add_argument("--markdown", type=Path, help="also write the page to this file")


def run(arguments: argparse.Namespace) -> int:
    """Measure and print; 1 if a limit is broken.

    Raises:
        BenchmarkError: a server does not start, a kind is not known, or the system does not tell memory.
    """
    kinds = arguments.kinds.split(",") if arguments.kinds else list(KINDS)
    modes = arguments.modes.split(",")
    for name, known in (*((kind, KINDS) for kind in kinds), *((mode, MODES) for mode in modes)):
        if name not in known:
            raise BenchmarkError(f"there is no {name!r}; known are {', '.join(known)}")
    found: dict[tuple[str, str], Stretch] = {}
    catalogue = bundle_of(arguments).catalogue
    # Kinds that were named are tried in each mode that was named.
    todo = {mode: [k for k in kinds if arguments.kinds or k in MODES[mode]] for mode in modes}
    with tqdm(total=len(todo) + sum(map(len, todo.values())), unit="kind", disable=None) as bar:
        for mode, chosen in todo.items():
            left = [GOOD, *chosen]
            while left:  # a service that broke a limit is replaced: what it did is no fault of the next kind
                with ExitStack() as stack:
                    scene = Scene(stack, arguments.bundle, mode, catalogue)
                    stretches = asyncio.run(scene.play(left, arguments.seconds, bar.update))
                found |= {(kind, mode): stretch for kind, stretch in stretches.items()}
                left = left[len(stretches) :]
    page = _page(found, arguments)
    sys.stdout.write(page)
    if arguments.markdown:
        write_text(arguments.markdown, page)
    return int(any(stretch.wrong for stretch in found.values()))


class Scene:
    """An endless provider and a service that asks it in one mode."""

    def __init__(self, stack: ExitStack, bundle: Path, mode: str, catalogue: Catalogue) -> None:
        """Start both, until the stack is closed.

        Raises:
            BenchmarkError: one does not start, or the system does not tell a process's memory.
        """
        provider, service = free_port(), free_port()
        self._provider, self._url = f"http://{HOST}:{provider}", f"http://{HOST}:{service}"
        self._items = [item.item_id for item in catalogue.items]
        self._draw = random.Random(0)
        module = "benchmarks.endless_server"
        stack.enter_context(running(module, [str(provider)], {}, provider, None))
        settings = self._settings(bundle, mode, service)
        self._process = stack.enter_context(running("service", [], settings, service, None))

    async def play(
        self, kinds: Sequence[str], seconds: float, done: Callable[[], object]
    ) -> dict[str, Stretch]:
        """Try each kind for so long, as far as one that breaks a limit; tells when each is done."""
        found: dict[str, Stretch] = {}
        async with ServiceClient(self._url, len(UNDER_WAY), 90.0) as asking, ServiceClient(self._url) as none:
            await asking.until_ready()
            await self._none(none, 1.0)  # the SDKs are loaded at the start; the candidate model is warm now
            idle = self._memory(NOW)
            brief = min(QUIET_SECONDS, seconds)
            quiet = await self._none(none, brief)
            for kind in kinds:
                stretch = brief if kind == GOOD else seconds
                found[kind] = await self._stretch(kind, stretch, asking, none, idle, quiet)
                done()
                if found[kind].wrong:
                    break
        return found

    async def _stretch(
        self,
        kind: str,
        seconds: float,
        asking: ServiceClient,
        none: ServiceClient,
        idle: int,
        quiet: Beside,
    ) -> Stretch:
        forget_peak(self._process.pid)
        sent, outcomes = (await self._state())["sent"], Counter[str]()
        end, late = time.monotonic() + seconds, [float("-inf")]

        async def client(number: int, wire: str, framing: str) -> None:
            for turn in itertools.count():
                left = end - time.monotonic()
                if left <= 0:
                    return
                deadline = min(DEADLINE, max(left, 0.1))
                model = f"{kind}.{framing}.{turn % SPARE}"
                options = {
                    "strategy": "s3", "cache": "off", "provider": PROVIDERS[wire], "model": model,
                }  # fmt: skip
                body = {**self._body(), "deadline_ms": round(1000 * deadline)}
                reply = await asking.recommend(body, options, watched=(turn + number) % 2 == 1)
                outcomes[_outcome(reply)] += 1
                late.append(reply.seconds - deadline)
                await asyncio.sleep(AGAIN_PAUSE)

        async with asyncio.TaskGroup() as group:
            asked = group.create_task(self._none(none, seconds))
            for number, (wire, framing) in enumerate(UNDER_WAY):
                group.create_task(client(number, wire, framing))
        beside = asked.result()
        peak = self._memory(PEAK)
        state = await self._gone()
        return Stretch(
            outcomes, max(late), state["sent"] - sent, peak - idle, beside, quiet, state["answering"]
        )

    async def _none(self, client: ServiceClient, seconds: float) -> Beside:
        """Ask `none` for so long, one request at a time."""
        took: list[float | None] = []
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            reply = await client.recommend(self._body(), {"strategy": "none"})
            good = reply.status == 200 and reply.attempts == 1
            took.append(1000 * reply.seconds if good else None)
            await asyncio.sleep(NONE_PAUSE)
        return Beside(tuple(took))

    async def _gone(self) -> dict[str, int]:
        """The provider's state once it writes to nothing any more, or after some seconds as it is."""
        end = time.monotonic() + LEAVING
        state = await self._state()
        while state["answering"] and time.monotonic() < end:
            await asyncio.sleep(0.1)
            state = await self._state()
        return state

    async def _state(self) -> dict[str, int]:
        return await asyncio.to_thread(_read, self._provider)

    def _memory(self, field: str) -> int:
        found = resident(self._process.pid, field)
        if found is None:
            raise BenchmarkError("this system does not tell the memory of a process: /proc is needed")
        return found

    def _body(self) -> dict[str, Any]:
        return {"history": self._draw.sample(self._items, HISTORY), "k": K}

    def _settings(self, bundle: Path, mode: str, port: int) -> dict[str, str]:
        models = [
            f"{kind}.{framing}.{n}" for kind in (GOOD, *KINDS) for framing in FRAMINGS for n in range(SPARE)
        ]
        compatible = {PROVIDERS["openai"]: {"base_url": f"{self._provider}/v1", "models": models}}
        return {
            "MSR_BUNDLE": str(bundle),
            "MSR_HOST": HOST,
            "MSR_PORT": str(port),
            "MSR_WORKERS": "1",
            "MSR_API_KEY": "",
            "MSR_REDIS_URL": "",
            "MSR_PROVIDER": PROVIDERS["openai"],
            "MSR_MODEL": "",
            "MSR_COMPATIBLE": json.dumps(compatible),
            "ANTHROPIC_API_KEY": "rehearsal",
            "MSR_ANTHROPIC_BASE_URL": self._provider,
            "MSR_ANTHROPIC_MODELS": ",".join(models),
            "MSR_LVLM_STREAM": str(mode == "stream").lower(),
            "MSR_LVLM_HEDGE": "0",
            "MSR_LOG_LEVEL": "error",
        }


def _outcome(reply: Reply) -> str:
    """What came of a request: its outcome, else what went wrong."""
    return str(reply.body.get("outcome") or reply.error or reply.status)


def _read(url: str) -> dict[str, int]:
    with urllib.request.urlopen(url, timeout=30) as response:  # noqa: S310 - our own server
        state: dict[str, int] = json.load(response)
        return state


def _page(found: Mapping[tuple[str, str], Stretch], arguments: argparse.Namespace) -> str:
    sentences = [
        f"- {kind}, {mode}: {'; '.join(stretch.wrong)}\n"
        for (kind, mode), stretch in found.items()
        if stretch.wrong
    ]
    memory = max(stretch.memory for stretch in found.values()) / MEGABYTE
    slower = max(stretch.slower for stretch in found.values())
    return "\n".join(
        (
            "## Providers that never end\n",
            machine.describe(machine.facts())
            + f"- {arguments.seconds} s for each kind, {len(UNDER_WAY)} requests under way "
            + f"({' and '.join(WIRES)} × {' and '.join(FRAMINGS)}), each made again when it ends; service, "
            + "provider (niced) and clients share the cores\n"
            + f"- command: `{arguments.command_line}`\n",
            _table(found).markdown(),
            "MB are 10^6 bytes: sent by the provider, before the client inflates it; above idle is resident "
            "memory at the peak, idle is a service that has called no provider yet. Milliseconds are of "
            "`none`, asked all the time: quiet, before; beside, meanwhile. Stream and plain: how the service "
            "asks.\n",
            f"- most MB above idle at most {MOST_MEGABYTES:g}: {memory:.0f}\n"
            f"- most milliseconds that the median of none grows at most {MOST_MS:g}: {slower:.1f}\n"
            f"- kinds that are not as they must be: {len(sentences)}\n" + "".join(sentences),
        )
    )


def _table(found: Mapping[tuple[str, str], Stretch]) -> Table:
    return Table(
        (
            "kind, mode", "requests", "MB sent", "MB above idle",
            "none p50 ms: quiet", "beside", "p99", "slowest", "s past the deadline",
        ),
        tuple(
            (
                f"{kind}, {mode}",
                ", ".join(f"{outcome} {count}" for outcome, count in stretch.outcomes.items()),
                f"{stretch.sent / MEGABYTE:.0f}",
                f"{stretch.memory / MEGABYTE:.0f}",
                f"{stretch.quiet.median:.1f}",
                f"{stretch.beside.median:.1f}",
                f"{percentile(stretch.beside.answered, 99):.0f}",
                f"{max(stretch.beside.answered):.0f}",
                f"{stretch.slowest:.2f}",
            )
            for (kind, mode), stretch in found.items()
        ),
    )  # fmt: skip
