"""Command ``forms``: compares the label form of the prompt with the paper's form.

It measures output tokens, seconds per user and pixels per item, with its own service and its own simulator,
which is as fast as a common hosted model.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from PIL import Image as Pillow
from tqdm import tqdm

from benchmarks.errors import BenchmarkError
from benchmarks.lab.cases import Case, Cohort
from benchmarks.lab.options import add_bundle_argument, bundle_of, positive
from benchmarks.lab.pages import add_markdown_argument, publish
from benchmarks.lab.rounds import Limit, LimitChecks, Ratio, any_broken, interleaved, verdicts
from benchmarks.lab.servers import running_service
from benchmarks.lab.service_client import ServiceClient
from benchmarks.lab.simulator_control import running_simulator
from benchmarks.lab.stats import mean, median
from models import machine
from models.printed_table import Table
from service.lvlm.contracts import HISTORY_SHOWN, Form, ImageMode
from service.lvlm.cost.prices import Prices
from service.lvlm.cost.tokens import Tiles
from service.lvlm.prompt import history_picture

FORMS: tuple[Form, ...] = ("label", "paper")  # the ratios below read label / paper
MODES: tuple[ImageMode, ...] = ("grid", "strip")
"""Arrangements of a history's images: the service's, and the paper's."""
FIRST_TOKEN, TOKENS_PER_SECOND = 0.6, 60
"""Seconds to the first token and tokens per second after it: the speed of a common hosted model."""
DEADLINE_MS = 300_000
"""Milliseconds, the longest deadline that the service allows, so that the paper's form is never cut."""
LOW_DETAIL = 512
"""Longest side in pixels to which a tile-priced model shrinks a picture at low detail (OpenAI's guide)."""

TOKENS = Limit("output tokens, label by paper", most=0.1)
SECONDS = Limit("seconds per user, paper by label", least=6)
PIXELS = Limit("pixels per item at the same price, grid by strip", least=4)


@dataclass(frozen=True)
class FormRound:
    """Results of one round, in which all users are asked in one form.

    Attributes:
        output_tokens: mean output tokens per user, as the simulator counted them.
        seconds: mean seconds per user that the client waited.
        ordered: number of answers that the LVLM ordered.
    """

    output_tokens: float
    seconds: float
    ordered: int


@dataclass(frozen=True)
class BilledPicture:
    """A picture of ten items, as a model that bills by tiles shrinks and bills it.

    Attributes:
        sent: width and height of the picture, in pixels.
        seen: width and height after the vendor has shrunk it.
        tokens: input tokens billed for it.
        columns: number of items side by side.
    """

    sent: tuple[int, int]
    seen: tuple[int, int]
    tokens: int
    columns: int

    @property
    def pixels_per_item(self) -> float:
        """Pixels of one item's square cell after the vendor has shrunk the picture."""
        # Cells are square and fill the width.
        return (self.seen[0] / self.columns) ** 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
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
    add_markdown_argument(parser)


def run(arguments: argparse.Namespace) -> int:
    """Measures and prints; returns the exit code, 1 when an answer was not the LVLM's or a limit was broken.

    Raises:
        BenchmarkError: the bundle is not usable, or a server does not start.
    """
    bundle = bundle_of(arguments)
    cases = list(Cohort(bundle.catalogue, arguments.users, arguments.seed))
    found = _measure(arguments, cases)
    seen = pictures("gpt-4o")
    page = _page(found, seen, bundle.catalogue.manifest.dataset, len(cases), arguments)
    publish(page, arguments.markdown)
    # An answer that fell back took no output tokens worth comparing.
    short = any(form_round.ordered < len(cases) for rounds in found.values() for form_round in rounds)
    return int(short or any_broken(limit_checks(found, seen)))


def pictures(model: str) -> dict[ImageMode, BilledPicture]:
    """Composes a full history as a grid and as the paper's strip, and bills both by the price table.

    Raises:
        BenchmarkError: the model does not bill pictures by tiles, with a flat price at low detail.
    """
    rule = Prices.read().images(model)
    if not isinstance(rule, Tiles):
        raise BenchmarkError(f"{model} bills a picture by its size")
    found: dict[ImageMode, BilledPicture] = {}
    for mode in MODES:
        side = history_picture.CELL_SIDE[mode]
        (picture,) = history_picture.compose([Pillow.new("RGB", (side, side))] * HISTORY_SHOWN, mode)
        # A picture that is small enough is not enlarged.
        scale = min(1.0, LOW_DETAIL / max(picture.width, picture.height))
        found[mode] = BilledPicture(
            (picture.width, picture.height),
            (round(picture.width * scale), round(picture.height * scale)),
            rule.tokens(picture.width, picture.height),
            picture.width // side,
        )
    return found


def _measure(arguments: argparse.Namespace, cases: Sequence[Case]) -> Mapping[str, Sequence[FormRound]]:
    pace = ["--ttft", str(arguments.ttft), "--tokens-per-second", str(arguments.tokens_per_second)]
    with (
        running_simulator(*pace) as simulator,
        running_service(arguments.bundle, _settings(simulator.url)) as service,
        tqdm(total=(arguments.rounds + 1) * len(FORMS), unit="round", disable=None) as bar,
    ):

        def form_round(form: Form, asked: Sequence[Case] = cases) -> FormRound:
            simulator.clear_ledger()
            found = asyncio.run(_ask(service.url, form, asked, arguments))
            rows = simulator.ledger()
            bar.update()
            # The tokens of a further call, a retry or a caption, would be counted for a user.
            if len(rows) != len(asked) or {row["kind"] for row in rows} != {form}:
                raise BenchmarkError(f"the simulator got {len(rows)} calls for {len(asked)} users")
            return FormRound(
                mean([row["output_tokens"] for row in rows]),
                mean([seconds for seconds, _ in found]),
                sum(ordered for _, ordered in found),
            )

        for form in FORMS:  # the first call of a process loads and connects everything
            form_round(form, cases[:1])
        return interleaved({form: partial(form_round, form) for form in FORMS}, arguments.rounds)


def _settings(simulator: str) -> dict[str, str]:
    return {
        "MSR_PROVIDER": "simulator",
        "MSR_MODEL": "",
        "MSR_SIMULATOR_URL": simulator,
        "MSR_LOG_LEVEL": "warning",
    }


async def _ask(
    url: str, form: Form, cases: Sequence[Case], arguments: argparse.Namespace
) -> list[tuple[float, bool]]:
    """Asks for every user; returns the seconds, and whether the LVLM ordered the answer."""
    gate = asyncio.Semaphore(arguments.at_once)
    options = {"strategy": "s3", "prompt": form, "cache": "off"}
    async with ServiceClient(url, arguments.at_once) as client:
        await client.wait_until_ready()

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


def answer_table(found: Mapping[str, Sequence[FormRound]]) -> Table:
    """Tabulates both forms: medians over rounds."""
    return Table(
        ("form", "ordered by the LVLM", "output tokens per user", "seconds per user"),
        tuple(
            (
                form,
                str(min(form_round.ordered for form_round in rounds)),
                f"{median([form_round.output_tokens for form_round in rounds]):.1f}",
                f"{median([form_round.seconds for form_round in rounds]):.2f}",
            )
            for form, rounds in found.items()
        ),
    )


def picture_table(found: Mapping[ImageMode, BilledPicture]) -> Table:
    """Tabulates a row for each arrangement of ten items."""
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


def limit_checks(
    found: Mapping[str, Sequence[FormRound]], seen: Mapping[ImageMode, BilledPicture]
) -> LimitChecks:
    """Pairs the limits of the label form and the grid with what was measured."""
    label, paper = (found[form] for form in FORMS)
    tokens = Ratio.of([s.output_tokens for s in label], [s.output_tokens for s in paper])
    seconds = Ratio.of([s.seconds for s in paper], [s.seconds for s in label])
    grid, strip = (seen[mode] for mode in MODES)
    gain = grid.pixels_per_item / strip.pixels_per_item
    # More pixels are a gain only at the same price.
    pixels = Ratio(gain, gain, gain) if grid.tokens == strip.tokens else None
    return (TOKENS, tokens), (SECONDS, seconds), (PIXELS, pixels)


def _page(
    found: Mapping[str, Sequence[FormRound]],
    seen: Mapping[ImageMode, BilledPicture],
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
            verdicts(limit_checks(found, seen)) + "\n",
        )
    )
