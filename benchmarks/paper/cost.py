"""Command ``cost``: estimates what 1,000 users cost per strategy, prompt form and model.

The prompts are built as for real requests; no provider is called and nothing is spent.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime
from collections.abc import Sequence

from tqdm import tqdm

from benchmarks.errors import BenchmarkError
from benchmarks.lab.cases import Cohort
from benchmarks.lab.lvlm_calls import PER, CallBuilder, CallEstimate
from benchmarks.lab.options import add_bundle_argument, bundle_of, positive
from benchmarks.lab.pages import add_markdown_argument, publish
from models import machine
from models.printed_table import Table
from service.catalogue.bundle import Catalogue
from service.lvlm.contracts import Form
from service.lvlm.cost.prices import Prices
from service.lvlm.cost.tokens import BYTES_PER_TOKEN
from service.lvlm.providers.base import Usage
from service.strategies import STRATEGIES

FORMS: tuple[Form, ...] = ("label", "paper")
CAPTION = "caption"
"""Key, in place of a strategy, of the estimate for a caption."""


Estimates = dict[tuple[str, Form, str], CallEstimate]
"""Estimates by strategy (or ``caption``, in the label form), form of the prompt and model."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    add_bundle_argument(parser)
    parser.add_argument("--users", type=positive, default=200, help="and images, in the sample (default 200)")
    parser.add_argument("--seed", type=int, default=2024, help="seed of the sample (default 2024)")
    parser.add_argument("-k", type=positive, default=10, help="items per answer (default 10)")
    parser.add_argument("--models", help="comma-separated (default: all in the price table)")
    add_markdown_argument(parser)


def run(arguments: argparse.Namespace) -> int:
    """Estimates and prints; returns the exit code.

    Raises:
        BenchmarkError: the bundle is not usable, or a model has no line in the price table.
    """
    bundle, prices = bundle_of(arguments), Prices.read()
    models = tuple(arguments.models.split(",")) if arguments.models else prices.models
    for model in models:
        if prices.cost(model, Usage()) is None:
            raise BenchmarkError(f"no price is known for {model!r}: choose from {', '.join(prices.models)}")
    found = asyncio.run(_estimate(arguments, bundle.catalogue, models))
    page = _page(found, models, prices, bundle.catalogue, arguments)
    publish(page, arguments.markdown)
    return 0


def asked(catalogue: Catalogue) -> tuple[tuple[str, Form], ...]:
    """Lists the strategies and forms that a bundle allows; without captions it has no enhanced view."""
    return tuple(
        (strategy.name, form)
        for strategy in STRATEGIES.values()
        if strategy.asks_lvlm and (strategy.view == "raw" or catalogue.captions)
        for form in FORMS
    )


async def _estimate(arguments: argparse.Namespace, catalogue: Catalogue, models: Sequence[str]) -> Estimates:
    cases = list(Cohort(catalogue, arguments.users, arguments.seed))
    calls = CallBuilder(catalogue)
    try:
        found: Estimates = {}
        with tqdm(total=len(asked(catalogue)) * len(cases), unit="prompt", disable=None) as bar:
            for name, form in asked(catalogue):
                drawn = []
                for case in cases:
                    # Built once per user and form: models differ only in how they count and price a call.
                    drawn.append(await calls.ranking(case, STRATEGIES[name], form, arguments.k))
                    bar.update()
                found |= {(name, form, model): calls.estimate(drawn, model) for model in models}
        if drawn := await calls.captions(arguments.users, arguments.seed):
            found |= {(CAPTION, FORMS[0], model): calls.estimate(drawn, model) for model in models}
        return found
    finally:
        await calls.close()


def ranking_table(found: Estimates, models: Sequence[str]) -> Table:
    """Tabulates a row for each strategy and model, with the two forms side by side."""
    columns = [f"{what}, {form}" for form in FORMS for what in ("input", "output", "USD")]
    rows = []
    for strategy in dict.fromkeys(name for name, _, _ in found if name != CAPTION):
        for model in models:
            sides = [found[strategy, form, model] for form in FORMS]
            # The sides are in the order of FORMS.
            label, paper = (side.dollars for side in sides)
            figures = [figure for side in sides for figure in _figures(side)]
            rows.append(
                (f"{strategy}, {model}", f"{sides[0].image_tokens:.0f}", *figures, f"{paper / label:.1f}")
            )
    return Table(("strategy, model", "of input: pictures", *columns, "USD, paper / label"), tuple(rows))


def caption_table(found: Estimates, models: Sequence[str], batch_share: float) -> Table:
    """Tabulates a row for each model: tokens and dollars per 1,000 captions, also by batch."""
    rows = []
    for model in models:
        side = found[CAPTION, FORMS[0], model]
        rows.append((model, f"{side.image_tokens:.0f}", *_figures(side), f"{batch_share * side.dollars:.3f}"))
    return Table(("model", "of input: pictures", "input", "output", "USD", "USD, batch"), tuple(rows))


def _figures(side: CallEstimate) -> tuple[str, str, str]:
    return f"{side.input_tokens:.0f}", f"{side.output_tokens:.0f}", f"{side.dollars:.3f}"


def _page(
    found: Estimates,
    models: Sequence[str],
    prices: Prices,
    catalogue: Catalogue,
    arguments: argparse.Namespace,
) -> str:
    pictured = any(item.image for item in catalogue.items)
    # A bundle may have captions of several captioners; the sample's prompts have the first one's.
    captioner = next(iter(sorted(catalogue.captions)), None)
    today = datetime.date.today()
    notes = [warning for model in models if (warning := prices.warning(model, today))]
    if not pictured:
        notes.append(
            "this bundle has no pictures: s1 and s3 show titles alone, and there is nothing to caption"
        )
    if captioner is None:
        notes.append("this bundle has no captions: s4 and s5 are left out")
    sections = [
        f"## What {PER:,} users cost: {catalogue.manifest.dataset}\n",
        machine.describe(machine.facts())
        + f"- prices: list prices of {prices.as_of} (`service/lvlm/cost/prices.toml`)\n"
        + f"- {arguments.users} users drawn with seed {arguments.seed}, 1 + 29 candidates, k = {arguments.k}"
        + (f", captions of {captioner}\n" if captioner else "\n")
        + f"- command: `{arguments.command_line}`\n"
        + "".join(f"- {note}\n" for note in notes),
        ranking_table(found, models).markdown(),
        f"Tokens per user, US dollars per {PER:,} users. **All of it is estimated; no provider was called.** "
        f"Text: a token for {BYTES_PER_TOKEN:g} bytes of the real prompt. Pictures: the vendor's published "
        "rule on the real picture. Output: what an answer of that form takes; a model that thinks bills its "
        "thoughts as output too, which cannot be known beforehand. Not in it: second attempts, cached input "
        "(cheaper), answers from our cache (free). A running service learns from its bills and says what it "
        "really spent (`msr_lvlm_cost_usd_total`).\n",
    ]
    if any(name == CAPTION for name, _, _ in found):
        sections += [
            f"### {PER:,} captions\n",
            caption_table(found, models, prices.batch_share).markdown(),
            f"Tokens per image, US dollars per {PER:,} images, estimated in the same way; a caption is asked "
            "for once in the life of an image. A batch costs half and comes within a day. A ranking that "
            "a user waits for cannot come by batch.\n",
        ]
    return "\n".join(sections)
