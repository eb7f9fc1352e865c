"""``forms``: what our label form saves beside the paper's: output tokens, seconds per user, pixels per item.

Starts its own simulator, at the speed of a common model, and its own service.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from PIL import Image as Pillow
from tqdm import tqdm

from benchmarks import machine
from benchmarks.cases import Case, Cohort
from benchmarks.client import ServiceClient
from benchmarks.errors import BenchmarkError
from benchmarks.files import write_text
from benchmarks.options import add_bundle_argument, bundle_of, positive
from benchmarks.rounds import Held, Limit, Ratio, any_broken, interleaved, verdicts
from benchmarks.servers import free_port, running
from benchmarks.stats import mean, median
from benchmarks.tables import Table
from models.evaluation import EvaluationProtocol
from service.lvlm import montage
from service.lvlm.contracts import HISTORY_SHOWN, Form, ImageMode
from service.lvlm.pricing import Prices
from service.lvlm.tokens import Tiles

HOST = "127.0.0.1"
FORMS: tuple[Form, ...] = ("label", "paper")
MODES: tuple[ImageMode, ...] = ("grid", "strip")
FIRST_TOKEN, TOKENS_PER_SECOND = 0.6, 60
DEADLINE_MS = 300_000
LOW_DETAIL = 512
"""Pixels of the longest side to which a tile-priced model shrinks a picture at low detail."""

TOKENS = Limit("output tokens, label by paper", most=0.1)
SECONDS = Limit("seconds per user, paper by label", least=6)
PIXELS = Limit("pixels per item at the same price, grid by strip", least=4)


@dataclass(frozen=True)
class Stretch:
    """All users once, in one form; means per user.

    Attributes:
        output_tokens: as the simulator counted what it sent.
        seconds: as the client waited.
        ordered: answers that the LVLM ordered.
    """

    output_tokens: float
    seconds: float
    ordered: int


@dataclass(frozen=True)
class Seen:
    """A picture of ten items as a tile-priced model bills and sees it.

    Attributes:
        sent: width and height of the picture.
        seen: after the vendor has shrunk it.
        tokens: billed for it.
    """

    sent: tuple[int, int]
    seen: tuple[int, int]
    tokens: int
    columns: int

    @property
    def pixels_per_item(self) -> float:
        """Of one item's square cell."""
        return (self.seen[0] / self.columns) ** 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_bundle_argument(parser)
    parser.add_argument("--users", type=positive, default=48, help="in every round, the same (default 48)")
    parser.add_argument("--at-once", type=positive, default=16, help="requests under way (default 16)")
    parser.add_argument("--rounds", type=positive, default=3, help="of both forms (default 3)")
    parser.add_argument("--seed", type=int, default=2024, help="seed of the choice of users (default 2024)")
    parser.add_argument("-k", type=positive, default=10, help="items per answer (default 10)")
    parser.add_argument(
        "--ttft", type=float, default=FIRST_TOKEN, help=f"seconds to the first token (default {FIRST_TOKEN})"
    )
    parser.add_argument(
        "--tokens-per-second",
        type=positive,
        default=TOKENS_PER_SECOND,
        help=f"of the simulator (default {TOKENS_PER_SECOND})",
    )
    parser.add_argument("--markdown", type=Path, help="also write the page to this file")


def run(arguments: argparse.Namespace) -> int:
    """Measure and print; returns the exit code, 1 when an answer was not the LVLM's or a limit was broken.

    Raises:
        BenchmarkError: the bundle is not usable, or a server does not start.
    """
    bundle = bundle_of(arguments)
    cases = list(Cohort(bundle.catalogue, EvaluationProtocol(), arguments.users, arguments.seed))
    found = _measure(arguments, cases)
    seen = pictures("gpt-4o")
    page = _page(found, seen, bundle.catalogue.manifest.dataset, len(cases), arguments)
    sys.stdout.write(page)
    if arguments.markdown:
        write_text(arguments.markdown, page)
    short = any(stretch.ordered < len(cases) for rounds in found.values() for stretch in rounds)
    return int(short or any_broken(held(found, seen)))


def pictures(model: str) -> dict[ImageMode, Seen]:
    """A full history as a grid and as the paper's strip, made by the montage and billed by the price table.

    Raises:
        BenchmarkError: the model has no flat price for a picture.
    """
    rule = Prices.read().images(model)
    if not isinstance(rule, Tiles):
        raise BenchmarkError(f"{model} bills a picture by its size")
    found: dict[ImageMode, Seen] = {}
    for mode in MODES:
        side = montage.CELL_SIDE[mode]
        (picture,) = montage.compose([Pillow.new("RGB", (side, side))] * HISTORY_SHOWN, mode)
        scale = min(1.0, LOW_DETAIL / max(picture.width, picture.height))
        found[mode] = Seen(
            (picture.width, picture.height),
            (round(picture.width * scale), round(picture.height * scale)),
            rule.tokens(picture.width, picture.height),
            picture.width // side,
        )
    return found


def _measure(arguments: argparse.Namespace, cases: Sequence[Case]) -> Mapping[str, Sequence[Stretch]]:
    simulator, service = free_port(), free_port()
    address = f"http://{HOST}:{simulator}"
    pace = ["--ttft", str(arguments.ttft), "--tokens-per-second", str(arguments.tokens_per_second)]
    settings = {
        "MSR_BUNDLE": str(arguments.bundle),
        "MSR_HOST": HOST,
        "MSR_PORT": str(service),
        "MSR_WORKERS": "1",
        "MSR_API_KEY": "",
        "MSR_REDIS_URL": "",
        "MSR_PROVIDER": "simulator",
        "MSR_MODEL": "",
        "MSR_SIMULATOR_URL": address,
        "MSR_LOG_LEVEL": "warning",
    }
    with (
        running("service.simulator", ["--port", str(simulator), *pace], {}, simulator, None),
        running("service", [], settings, service, None),
        tqdm(total=(arguments.rounds + 1) * len(FORMS), unit="stretch", disable=None) as bar,
    ):
        url = f"http://{HOST}:{service}"

        def stretch(form: Form, asked: Sequence[Case] = cases) -> Stretch:
            _read(f"{address}/ledger", method="DELETE")
            found = asyncio.run(_ask(url, form, asked, arguments))
            rows = json.loads(_read(f"{address}/ledger"))
            bar.update()
            if len(rows) != len(asked) or {row["kind"] for row in rows} != {form}:
                raise BenchmarkError(f"the simulator got {len(rows)} calls for {len(asked)} users")
            return Stretch(
                mean([row["output_tokens"] for row in rows]),
                mean([seconds for seconds, _ in found]),
                sum(ordered for _, ordered in found),
            )

        for form in FORMS:  # the first call of a process loads and connects everything
            stretch(form, cases[:1])
        return interleaved({form: partial(stretch, form) for form in FORMS}, arguments.rounds)


async def _ask(
    url: str, form: Form, cases: Sequence[Case], arguments: argparse.Namespace
) -> list[tuple[float, bool]]:
    """Seconds of every user, and whether the LVLM ordered the answer."""
    gate = asyncio.Semaphore(arguments.at_once)
    options = {"strategy": "s3", "prompt": form, "cache": "off"}
    async with ServiceClient(url, arguments.at_once) as client:
        await client.until_ready()

        async def ask(case: Case) -> tuple[float, bool]:
            body = {
                "history": list(case.history),
                "candidates": list(case.candidates),
                "k": arguments.k,
                "deadline_ms": DEADLINE_MS,
            }
            async with gate:
                reply = await client.recommend(body, options)
            return reply.seconds, reply.body.get("served") == "s3"

        return await asyncio.gather(*map(ask, cases))


def _read(url: str, method: str = "GET") -> bytes:
    try:
        request = urllib.request.Request(url, method=method)  # noqa: S310 - our own server
        with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310
            answer: bytes = response.read()
            return answer
    except OSError as error:
        raise BenchmarkError(f"the simulator does not take {method} {url}: {error}") from error


def answer_table(found: Mapping[str, Sequence[Stretch]]) -> Table:
    """Medians over rounds."""
    return Table(
        ("form", "ordered by the LVLM", "output tokens per user", "seconds per user"),
        tuple(
            (
                form,
                str(min(stretch.ordered for stretch in rounds)),
                f"{median([stretch.output_tokens for stretch in rounds]):.1f}",
                f"{median([stretch.seconds for stretch in rounds]):.2f}",
            )
            for form, rounds in found.items()
        ),
    )


def picture_table(found: Mapping[ImageMode, Seen]) -> Table:
    """A row for each way to put ten items into a picture."""
    return Table(
        ("picture", "sent", "seen at low detail", "pixels per item", "tokens"),
        tuple(
            (
                mode,
                "×".join(map(str, picture.sent)),
                "×".join(map(str, picture.seen)),
                f"{picture.pixels_per_item:.0f}",
                str(picture.tokens),
            )
            for mode, picture in found.items()
        ),
    )


def held(found: Mapping[str, Sequence[Stretch]], seen: Mapping[ImageMode, Seen]) -> Held:
    """What the label form and the grid are held to, and what they came to."""
    label, paper = (found[form] for form in FORMS)
    tokens = Ratio.of([s.output_tokens for s in label], [s.output_tokens for s in paper])
    seconds = Ratio.of([s.seconds for s in paper], [s.seconds for s in label])
    grid, strip = (seen[mode] for mode in MODES)
    gain = grid.pixels_per_item / strip.pixels_per_item
    pixels = Ratio(gain, gain, gain) if grid.tokens == strip.tokens else None
    return (TOKENS, tokens), (SECONDS, seconds), (PIXELS, pixels)


def _page(
    found: Mapping[str, Sequence[Stretch]],
    seen: Mapping[ImageMode, Seen],
    dataset: str,
    users: int,
    arguments: argparse.Namespace,
) -> str:
    return "\n".join(
        (
            f"## Our label form beside the paper's: {dataset}, s3, k = {arguments.k}\n",
            machine.describe(machine.facts())
            + f"- {users} users, the same in both forms, {arguments.at_once} at a time; 1 + 29 candidates; "
            + "no explanation asked, no cache\n"
            + f"- simulator: {arguments.ttft:g} s to the first token, {arguments.tokens_per_second} tokens "
            + f"per second; {arguments.rounds} interleaved rounds\n"
            + f"- command: `{arguments.command_line}`\n",
            answer_table(found).markdown(),
            "Medians over rounds of means per user. Tokens as the simulator counted them, seconds as the "
            "client waited. The label form answers k labels; the paper's an explanation and all titles. The "
            "simulator explains itself in a sentence; a real model says more.\n",
            picture_table(seen).markdown(),
            f"Ten items at gpt-4o, which bills a picture at low detail at a flat price and sees it shrunk to "
            f"{LOW_DETAIL} pixels. Models that bill by patch bill pixels: there a grid is no sharper for its "
            "price, only cheaper.\n",
            verdicts(held(found, seen)) + "\n",
        )
    )
