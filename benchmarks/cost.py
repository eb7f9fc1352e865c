"""``cost``: what 1,000 users cost per strategy, prompt form and model, before a cent is spent.

The prompts are the real ones, built as for a request and shown to nobody: no provider is called.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tqdm import tqdm

from benchmarks import machine
from benchmarks.cases import Case, Cohort
from benchmarks.errors import BenchmarkError
from benchmarks.files import write_text
from benchmarks.options import add_bundle_argument, bundle_of, positive
from benchmarks.stats import mean
from benchmarks.tables import Table
from models.evaluation import EvaluationProtocol
from service.bundle import Catalogue
from service.lvlm.accounts import Accounts
from service.lvlm.allowance import Allowance
from service.lvlm.answer_cache import AnswerCache, Lifetimes
from service.lvlm.captions import Captions
from service.lvlm.contracts import Form, StageRequest
from service.lvlm.elsewhere import Elsewhere
from service.lvlm.gateway import Gateway
from service.lvlm.pictures import Pictures
from service.lvlm.pricing import Prices
from service.lvlm.prompts import caption_prompt
from service.lvlm.providers.base import Call, Usage
from service.lvlm.stage import LvlmStage, StageOptions
from service.lvlm.thumbnails import ThumbnailCache
from service.lvlm.tokens import BYTES_PER_TOKEN
from service.metrics import Metrics
from service.stores.memory import MemoryCache, MemoryMeters
from service.strategies import STRATEGIES, Strategy

FORMS: tuple[Form, ...] = ("label", "paper")
NOBODY = "nobody"
"""The provider of calls that are never made."""
PER = 1_000
"""Users, or images, for which a price is quoted."""
CAPTION = "caption"
MEMORY_BYTES = 64 * 2**20
MAX_OUTPUT_TOKENS = 2_048


@dataclass(frozen=True)
class Expected:
    """What a call is expected to take: means over the sample.

    Attributes:
        input_tokens: text and pictures.
        image_tokens: of the pictures alone.
        dollars: US dollars for 1,000 calls.
    """

    input_tokens: float
    image_tokens: float
    output_tokens: float
    dollars: float


Estimates = dict[tuple[str, Form, str], Expected]
"""By what is asked (a strategy, or ``caption`` in the label form), form of the prompt and model."""


class Calls:
    """Builds the calls for users and images of a catalogue, as the service does, and makes none of them."""

    def __init__(self, catalogue: Catalogue) -> None:
        """Open nothing: stores are in memory, and there is no provider."""
        self._catalogue = catalogue
        metrics, meters, cache = Metrics(), MemoryMeters(), MemoryCache(MEMORY_BYTES)
        self._gateway = Gateway(
            {}, Accounts(Prices.read(), metrics), Allowance(meters, meters), metrics, concurrency=1
        )
        self._pictures = Pictures(catalogue, ThumbnailCache(MEMORY_BYTES))
        captions = Captions(
            catalogue,
            self._pictures,
            self._gateway,
            cache,
            metrics,
            ttl=1,
            max_output_tokens=MAX_OUTPUT_TOKENS,
            fill=False,
        )
        self._stage = LvlmStage(
            catalogue,
            gateway=self._gateway,
            pictures=self._pictures,
            captions=captions,
            answers=AnswerCache(cache, Lifetimes(1, 0, 0), metrics),
            elsewhere=Elsewhere(None),
            metrics=metrics,
            options=StageOptions(max_output_tokens=MAX_OUTPUT_TOKENS),
        )

    async def ranking(self, case: Case, strategy: Strategy, form: Form, k: int) -> Call:
        """The call for one user."""
        rows = self._catalogue.rows
        return await self._stage.prompt(
            StageRequest(
                strategy,
                history=tuple(rows[item] for item in case.history),
                pool=tuple(rows[item] for item in case.candidates),
                k=k,
                provider=NOBODY,
                model="",
                form=form,
            )
        )

    async def captions(self, images: int, seed: int) -> list[Call]:
        """The calls that describe a sample of the catalogue's pictures; none if it has none."""
        items = self._catalogue.items
        pictured = [row for row in range(len(items)) if self._catalogue.image_path(row)]
        drawn = random.Random(seed).sample(pictured, min(images, len(pictured)))
        pictures = [image for row in drawn if (image := await self._pictures.item(row))]
        return [Call(caption_prompt(image), "", MAX_OUTPUT_TOKENS, stream=False) for image in pictures]

    def expected(self, calls: Sequence[Call], model: str) -> Expected:
        """What these calls would take of one model."""
        bills = [self._gateway.expected(NOBODY, replace(call, model=model)) for call in calls]
        return Expected(
            mean([bill.usage.input_tokens for bill in bills]),
            mean([bill.usage.image_tokens for bill in bills]),
            mean([bill.usage.output_tokens for bill in bills]),
            PER * mean([bill.cost_usd or 0.0 for bill in bills]),
        )

    async def close(self) -> None:
        """Stop its threads."""
        await self._stage.close()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_bundle_argument(parser)
    parser.add_argument("--users", type=positive, default=200, help="and images, in the sample (default 200)")
    parser.add_argument("--seed", type=int, default=2024, help="seed of the sample (default 2024)")
    parser.add_argument("-k", type=positive, default=10, help="items per answer (default 10)")
    parser.add_argument("--models", help="comma-separated (default: all in the price table)")
    parser.add_argument("--markdown", type=Path, help="also write the page to this file")


def run(arguments: argparse.Namespace) -> int:
    """Estimate and print; returns the exit code.

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
    sys.stdout.write(page)
    if arguments.markdown:
        write_text(arguments.markdown, page)
    return 0


def asked(catalogue: Catalogue) -> tuple[tuple[str, Form], ...]:
    """What a bundle can be asked with an LVLM; without captions there is no enhanced view."""
    return tuple(
        (strategy.name, form)
        for strategy in STRATEGIES.values()
        if strategy.asks_lvlm and (strategy.view == "raw" or catalogue.captions)
        for form in FORMS
    )


async def _estimate(arguments: argparse.Namespace, catalogue: Catalogue, models: Sequence[str]) -> Estimates:
    cases = list(Cohort(catalogue, EvaluationProtocol(), arguments.users, arguments.seed))
    calls = Calls(catalogue)
    try:
        found: Estimates = {}
        with tqdm(total=len(asked(catalogue)) * len(cases), unit="prompt", disable=None) as bar:
            for name, form in asked(catalogue):
                drawn = []
                for case in cases:
                    drawn.append(await calls.ranking(case, STRATEGIES[name], form, arguments.k))
                    bar.update()
                found |= {(name, form, model): calls.expected(drawn, model) for model in models}
        if drawn := await calls.captions(arguments.users, arguments.seed):
            found |= {(CAPTION, FORMS[0], model): calls.expected(drawn, model) for model in models}
        return found
    finally:
        await calls.close()


def ranking_table(found: Estimates, models: Sequence[str]) -> Table:
    """A row for each strategy and model; the two forms side by side."""
    columns = [f"{what}, {form}" for form in FORMS for what in ("input", "output", "USD")]
    rows = []
    for strategy in dict.fromkeys(name for name, _, _ in found if name != CAPTION):
        for model in models:
            sides = [found[strategy, form, model] for form in FORMS]
            label, paper = (side.dollars for side in sides)
            figures = [figure for side in sides for figure in _figures(side)]
            rows.append(
                (f"{strategy}, {model}", f"{sides[0].image_tokens:.0f}", *figures, f"{paper / label:.1f}")
            )
    return Table(("strategy, model", "of input: pictures", *columns, "USD, paper / label"), tuple(rows))


def caption_table(found: Estimates, models: Sequence[str], batch_share: float) -> Table:
    """A row for each model."""
    rows = []
    for model in models:
        side = found[CAPTION, FORMS[0], model]
        rows.append((model, f"{side.image_tokens:.0f}", *_figures(side), f"{batch_share * side.dollars:.3f}"))
    return Table(("model", "of input: pictures", "input", "output", "USD", "USD, batch"), tuple(rows))


def _figures(side: Expected) -> tuple[str, str, str]:
    return f"{side.input_tokens:.0f}", f"{side.output_tokens:.0f}", f"{side.dollars:.3f}"


def _page(
    found: Estimates,
    models: Sequence[str],
    prices: Prices,
    catalogue: Catalogue,
    arguments: argparse.Namespace,
) -> str:
    pictured = any(item.image for item in catalogue.items)
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
        + f"- prices: list prices of {prices.as_of} (`service/lvlm/pricing.toml`)\n"
        + f"- {arguments.users} users drawn with seed {arguments.seed}, 1 + 29 candidates, k = {arguments.k}"
        + (f", captions of {captioner}\n" if captioner else "\n")
        + f"- command: `{arguments.command_line}`\n"
        + "".join(f"- {note}\n" for note in notes),
        ranking_table(found, models).markdown(),
        f"Tokens per user, US dollars per {PER:,} users. **All of it is estimated; no provider was called.** "
        f"Text: a token for {BYTES_PER_TOKEN:g} bytes of the real prompt. Pictures: the vendor's published "
        "rule on the real picture. Output: what an answer of that form takes; a model that thinks bills its "
        "thoughts as output too, which nobody can know beforehand. Not in it: second attempts, cached input "
        "(cheaper), answers from our cache (free). A running service learns from its bills and says what it "
        "really spent (`msr_lvlm_cost_usd_total`).\n",
    ]
    if any(name == CAPTION for name, _, _ in found):
        sections += [
            f"### {PER:,} captions\n",
            caption_table(found, models, prices.batch_share).markdown(),
            f"Tokens per image, US dollars per {PER:,} images, estimated in the same way; a caption is asked "
            "for once in the life of an image. A batch costs half and comes within a day. A ranking that "
            "somebody waits for cannot come by batch.\n",
        ]
    return "\n".join(sections)
