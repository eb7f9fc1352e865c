"""Command ``behaviours``: tries every behaviour of the fake vendors in each mode, for JSON and for events.

The fake vendors are programs in a folder beside the repository (``--fakes``); without it the command does
nothing. The expected outcome of each behaviour is in ``expectations``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from benchmarks.errors import BenchmarkError
from benchmarks.lab.options import add_bundle_argument, bundle_of, positive
from benchmarks.lab.pages import add_markdown_argument, publish
from benchmarks.lab.servers import running_service
from benchmarks.lab.service_client import ServiceClient
from benchmarks.lvlm.fake_vendors.expectations import (
    ATTEMPTS,
    STRATEGY,
    CountedReply,
    K,
    expectation,
    problems_with,
    tokens,
)
from benchmarks.lvlm.fake_vendors.programs import (
    GOOD,
    MODES,
    PROGRAMS,
    BehaviourCell,
    FakeVendor,
    add_fake_vendor_arguments,
    behaviours,
    cells_of,
    missing,
    running_fake_vendors,
)
from models import machine
from models.printed_table import NO_VALUE, Table
from service.catalogue.bundle import Catalogue

HISTORY = 10
ANTHROPIC = "anthropic"


Found = Mapping[BehaviourCell, Sequence[CountedReply]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    add_bundle_argument(parser)
    add_fake_vendor_arguments(parser)
    parser.add_argument("--at-once", type=positive, default=4, help="behaviours under way (default 4)")
    add_markdown_argument(parser)


def run(arguments: argparse.Namespace) -> int:
    """Asks everything and prints; returns the exit code, 1 if anything is not as it must be.

    Raises:
        BenchmarkError: a server does not start.
    """
    if missing(arguments):
        return 0
    catalogue = bundle_of(arguments).catalogue
    with ExitStack() as stack:
        servers = {mode: _Servers.start(stack, arguments, mode) for mode in MODES}
        found = asyncio.run(_ask(cells_of(arguments), servers, catalogue, arguments.at_once))
    wrongs = {
        cell: problems_with(expectation(cell.wire, cell.behaviour, cell.mode), asked)
        for cell, asked in found.items()
    }
    page = _page(found, wrongs, arguments)
    publish(page, arguments.markdown)
    return int(any(wrongs.values()))


@dataclass(frozen=True)
class _Servers:
    """The fake vendors by wire format, and the address of a service that asks them in one mode."""

    fakes: Mapping[str, FakeVendor]
    url: str

    @classmethod
    def start(cls, stack: ExitStack, arguments: argparse.Namespace, mode: str) -> _Servers:
        """Starts them until the stack is closed.

        Raises:
            BenchmarkError: one does not start.
        """
        fakes = stack.enter_context(running_fake_vendors(arguments.fakes))
        settings = _settings(fakes, arguments.fakes, mode)
        return cls(fakes, stack.enter_context(running_service(arguments.bundle, settings)).url)


def _provider(wire: str, behaviour: str) -> str:
    """Names the provider of a behaviour.

    Each behaviour has its own provider if it can, since the service remembers what a provider has refused.
    """
    return ANTHROPIC if wire == ANTHROPIC else f"fake-{behaviour}"


def _settings(fakes: Mapping[str, FakeVendor], folder: Path, mode: str) -> dict[str, str]:
    names = {wire: behaviours(folder, wire) for wire in PROGRAMS}
    base_url = f"{fakes['openai'].url}/v1"
    # One provider for each behaviour, all at the same address: the model's name chooses the behaviour.
    compatible = {
        _provider("openai", name): {"base_url": base_url, "models": [name]} for name in names["openai"]
    }
    return {
        "MSR_PROVIDER": _provider("openai", GOOD),
        "MSR_MODEL": "",
        "MSR_COMPATIBLE": json.dumps(compatible),
        "ANTHROPIC_API_KEY": "rehearsal",
        "MSR_ANTHROPIC_BASE_URL": fakes[ANTHROPIC].url,
        "MSR_ANTHROPIC_MODELS": ",".join(names[ANTHROPIC]),
        "MSR_LVLM_STREAM": str(mode == "stream").lower(),
        "MSR_LVLM_ATTEMPTS": str(ATTEMPTS),
        "MSR_LVLM_HEDGE": "0",  # calls are counted, and a call that is slow by chance must not be hedged
        "MSR_LOG_LEVEL": "error",
    }


async def _ask(
    cells: Sequence[BehaviourCell], servers: Mapping[str, _Servers], catalogue: Catalogue, at_once: int
) -> Found:
    """Asks each cell without events, then with events, and counts the calls of each request."""
    pictured = [item.item_id for item in catalogue.items if item.image]
    if len(pictured) < HISTORY:
        raise BenchmarkError(f"the bundle has pictures of only {len(pictured)} items: {HISTORY} are needed")
    gate, draw = asyncio.Semaphore(at_once), random.Random(0)
    found: dict[BehaviourCell, list[CountedReply]] = {cell: [] for cell in cells}
    with tqdm(total=len(cells), unit="behaviour", disable=None) as bar:

        async def one(cell: BehaviourCell, client: ServiceClient) -> None:
            fake = servers[cell.mode].fakes[cell.wire]
            options = {
                "strategy": STRATEGY,
                "cache": "off",
                "provider": _provider(cell.wire, cell.behaviour),
                "model": cell.behaviour,
            }
            async with gate:
                # At the first request the service may learn that a field is refused; at the second it knows.
                for with_events in (False, True):
                    body = {"history": draw.sample(pictured, HISTORY), "k": K}
                    # A behaviour has one request under way at a time: the log has grown by its calls alone.
                    before = fake.calls()[cell.behaviour]
                    reply = await client.recommend(body, options, with_events=with_events)
                    found[cell].append(
                        CountedReply(reply, fake.calls()[cell.behaviour] - before, with_events)
                    )
            bar.update()

        for mode in MODES:
            async with ServiceClient(servers[mode].url, at_once) as client:
                await client.wait_until_ready()
                await asyncio.gather(*(one(cell, client) for cell in cells if cell.mode == mode))
    return found


def _page(found: Found, wrongs: Mapping[BehaviourCell, Sequence[str]], arguments: argparse.Namespace) -> str:
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


def _outcomes(wire: str, found: Found, wrongs: Mapping[BehaviourCell, Sequence[str]]) -> Table:
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
                *(text for mode in MODES for text in _cells(found[BehaviourCell(wire, name, mode)])),
                "NO" if any(wrongs[BehaviourCell(wire, name, mode)] for mode in MODES) else "yes",
            )
            for name in names
        ),
    )


def _cells(asked: Sequence[CountedReply]) -> tuple[str, str, str]:
    outcomes = dict.fromkeys(one.outcome for one in asked)
    lvlm = asked[-1].reply.body.get("lvlm")
    return (
        " / ".join(outcomes),
        ", ".join(str(one.calls) for one in asked),
        tokens(lvlm) if lvlm else NO_VALUE,
    )


def _reasons(found: Found) -> list[str]:
    """Lists each reason once, with the behaviours that it is given for."""
    named: dict[tuple[str, str], dict[str, None]] = {}
    for cell in found:
        right = expectation(cell.wire, cell.behaviour, cell.mode)
        named.setdefault((" or ".join(right.outcomes), right.why), {})[cell.behaviour] = None
    return [f"- `{outcome}`: {why}: {', '.join(names)}" for (outcome, why), names in named.items()]
