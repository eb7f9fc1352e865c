"""``behaviours``: every behaviour of the fake vendors, asked plainly and for a stream, for JSON and events.

The fakes are programs of their own in a folder beside the repository (``--fakes``), started as they are;
where there are none, there is nothing to ask. What is right for which behaviour is in `behaviour_checks`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from benchmarks import machine
from benchmarks.behaviour_checks import ATTEMPTS, MODES, STRATEGY, Asked, K, expected, tokens, wrong
from benchmarks.client import ServiceClient
from benchmarks.errors import BenchmarkError
from benchmarks.fakes import FOLDER, GOOD, PROGRAMS, Fake, behaviours, present, running_fake
from benchmarks.files import write_text
from benchmarks.options import add_bundle_argument, bundle_of, positive
from benchmarks.servers import free_port, running
from benchmarks.tables import UNKNOWN, Table
from service.catalogue.bundle import Catalogue

HOST = "127.0.0.1"
HISTORY = 10
ANTHROPIC = "anthropic"


@dataclass(frozen=True)
class Cell:
    """One behaviour of one fake, as the service asks it in one mode."""

    wire: str
    behaviour: str
    mode: str

    @property
    def provider(self) -> str:
        """A provider for each behaviour where there can be several: what one server refuses is its own."""
        return ANTHROPIC if self.wire == ANTHROPIC else f"fake-{self.behaviour}"

    def __str__(self) -> str:
        return f"{self.wire} {self.behaviour}, {self.mode}"


Found = Mapping[Cell, Sequence[Asked]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_bundle_argument(parser)
    parser.add_argument(
        "--fakes", type=Path, default=FOLDER, help="folder of the fakes (default: %(default)s)"
    )
    parser.add_argument("--only", help="comma-separated behaviours (default: all)")
    parser.add_argument("--at-once", type=positive, default=4, help="behaviours under way (default 4)")
    parser.add_argument("--markdown", type=Path, help="also write the page to this file")


def run(arguments: argparse.Namespace) -> int:
    """Ask everything and print; 1 if anything is not as it must be.

    Raises:
        BenchmarkError: a server does not start.
    """
    if not present(arguments.fakes):
        sys.stderr.write(f"no fake vendors in {arguments.fakes}: name their folder with --fakes\n")
        return 0
    catalogue = bundle_of(arguments).catalogue
    wanted = set(arguments.only.split(",")) if arguments.only else None
    with ExitStack() as stack:
        servers = {mode: _Servers.start(stack, arguments, mode) for mode in MODES}
        cells = [
            Cell(wire, behaviour, mode)
            for wire in PROGRAMS
            for behaviour in behaviours(arguments.fakes, wire)
            for mode in MODES
            if wanted is None or behaviour in wanted
        ]
        found = asyncio.run(_ask(cells, servers, catalogue, arguments.at_once))
    wrongs = {
        cell: wrong(expected(cell.wire, cell.behaviour, cell.mode), asked) for cell, asked in found.items()
    }
    page = _page(found, wrongs, arguments)
    sys.stdout.write(page)
    if arguments.markdown:
        write_text(arguments.markdown, page)
    return int(any(wrongs.values()))


@dataclass(frozen=True)
class _Servers:
    """The fakes by wire, and a service that asks them in one mode."""

    fakes: Mapping[str, Fake]
    url: str

    @classmethod
    def start(cls, stack: ExitStack, arguments: argparse.Namespace, mode: str) -> _Servers:
        """Start them until the stack is closed.

        Raises:
            BenchmarkError: one does not start.
        """
        logs = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        fakes = {wire: stack.enter_context(running_fake(arguments.fakes, wire, logs)) for wire in PROGRAMS}
        port = free_port()
        names = {wire: behaviours(arguments.fakes, wire) for wire in PROGRAMS}
        base_url = f"{fakes['openai'].url}/v1"
        compatible = {
            Cell("openai", name, mode).provider: {"base_url": base_url, "models": [name]}
            for name in names["openai"]
        }
        settings = {
            "MSR_BUNDLE": str(arguments.bundle),
            "MSR_HOST": HOST,
            "MSR_PORT": str(port),
            "MSR_WORKERS": "1",
            "MSR_API_KEY": "",
            "MSR_REDIS_URL": "",
            "MSR_PROVIDER": Cell("openai", GOOD, mode).provider,
            "MSR_MODEL": "",
            "MSR_COMPATIBLE": json.dumps(compatible),
            "ANTHROPIC_API_KEY": "rehearsal",
            "MSR_ANTHROPIC_BASE_URL": fakes[ANTHROPIC].url,
            "MSR_ANTHROPIC_MODELS": ",".join(names[ANTHROPIC]),
            "MSR_LVLM_STREAM": str(mode == "stream").lower(),
            "MSR_LVLM_ATTEMPTS": str(ATTEMPTS),
            "MSR_LVLM_HEDGE": "0",  # calls are counted: none beside one that is slow by chance
            "MSR_LOG_LEVEL": "error",
        }
        stack.enter_context(running("service", [], settings, port, None))
        return cls(fakes, f"http://{HOST}:{port}")


async def _ask(
    cells: Sequence[Cell], servers: Mapping[str, _Servers], catalogue: Catalogue, at_once: int
) -> Found:
    """Ask for each cell without events, then with events, and count the calls of each request."""
    pictured = [item.item_id for item in catalogue.items if item.image]
    if len(pictured) < HISTORY:
        raise BenchmarkError(f"the bundle has pictures of only {len(pictured)} items: {HISTORY} are needed")
    gate, draw = asyncio.Semaphore(at_once), random.Random(0)
    found: dict[Cell, list[Asked]] = {cell: [] for cell in cells}
    with tqdm(total=len(cells), unit="behaviour", disable=None) as bar:

        async def one(cell: Cell, client: ServiceClient) -> None:
            fake = servers[cell.mode].fakes[cell.wire]
            options = {
                "strategy": STRATEGY,
                "cache": "off",
                "provider": cell.provider,
                "model": cell.behaviour,
            }
            async with gate:
                for watched in (False, True):
                    body = {"history": draw.sample(pictured, HISTORY), "k": K}
                    before = fake.calls()[cell.behaviour]
                    reply = await client.recommend(body, options, watched=watched)
                    found[cell].append(Asked(reply, fake.calls()[cell.behaviour] - before, watched))
            bar.update()

        for mode in MODES:
            async with ServiceClient(servers[mode].url, at_once) as client:
                await client.until_ready()
                await asyncio.gather(*(one(cell, client) for cell in cells if cell.mode == mode))
    return found


def _page(found: Found, wrongs: Mapping[Cell, Sequence[str]], arguments: argparse.Namespace) -> str:
    sentences = [f"- {cell}: {'; '.join(said)}" for cell, said in wrongs.items() if said]
    broken = sum(bool(said) for said in wrongs.values())
    tables = [
        f"### {PROGRAMS[wire]}\n\n{_outcomes(wire, found, wrongs).markdown()}"
        for wire in PROGRAMS
        if any(cell.wire == wire for cell in found)
    ]
    return "\n".join(
        (
            "## What the LVLM stage makes of everything that servers send\n",
            machine.describe(machine.facts())
            + f"- {len(found)} cells (behaviour × {' and '.join(MODES)}), each asked for {STRATEGY} and "
            + f"k = {K} without events and then with events, at most {ATTEMPTS} attempts\n"
            + f"- command: `{arguments.command_line}`\n",
            *tables,
            "Plain and stream: how the service asks; the Anthropic fake streams whatever it is asked. "
            "Calls: of the first request of a process and of the second. Tokens: input/output of the second "
            "request; ≈ is an estimate. Right also means: each event stream ends with its answer, and "
            "nothing that it told as the LVLM's is taken back.\n",
            "### Why\n\n" + "\n".join(_reasons(found)) + "\n",
            f"- cells that are not as they must be: {broken}\n" + "".join(f"{line}\n" for line in sentences),
        )
    )


def _outcomes(wire: str, found: Found, wrongs: Mapping[Cell, Sequence[str]]) -> Table:
    names = list(dict.fromkeys(cell.behaviour for cell in found if cell.wire == wire))
    return Table(
        (
            "behaviour",
            *(f"{mode}: {what}" for mode in MODES for what in ("outcome", "calls", "tokens")),
            "as it must be",
        ),
        tuple(
            (
                name,
                *(text for mode in MODES for text in _cells(found[Cell(wire, name, mode)])),
                "NO" if any(wrongs[Cell(wire, name, mode)] for mode in MODES) else "yes",
            )
            for name in names
        ),
    )


def _cells(asked: Sequence[Asked]) -> tuple[str, str, str]:
    outcomes = dict.fromkeys(one.outcome for one in asked)
    lvlm = asked[-1].reply.body.get("lvlm")
    return (
        " / ".join(outcomes),
        ", ".join(str(one.calls) for one in asked),
        tokens(lvlm) if lvlm else UNKNOWN,
    )


def _reasons(found: Found) -> list[str]:
    """Each reason once, with the behaviours that it is given for."""
    named: dict[tuple[str, str], dict[str, None]] = {}
    for cell in found:
        right = expected(cell.wire, cell.behaviour, cell.mode)
        named.setdefault((" or ".join(right.outcomes), right.why), {})[cell.behaviour] = None
    return [f"- `{outcome}`: {why}: {', '.join(names)}" for (outcome, why), names in named.items()]
