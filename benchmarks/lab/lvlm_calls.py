"""Builds LVLM calls as the service would make them for a user or an image, and sends them to no provider."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from benchmarks.lab.cases import Case
from benchmarks.lab.stats import mean
from service.catalogue.bundle import Catalogue
from service.lvlm.contracts import Form, StageOptions, StageRequest
from service.lvlm.prompt.prompts import caption_prompt
from service.lvlm.providers.base import Call
from service.metrics import Metrics
from service.stores.worker_stores import memory_stores
from service.strategies import Strategy
from service.wiring.lvlm import GatewayOptions, LvlmOptions, open_gateway, open_lvlm

PROVIDER = "none"
"""Name of the provider in calls that are built and never made; no bill corrects its estimates."""
PER = 1_000
"""Number of users, or images, that prices are quoted for."""
MEMORY_BYTES = 64 * 2**20
"""Bytes of the cache in memory and of the cache of thumbnails; beyond them old entries are dropped."""
MAX_OUTPUT_TOKENS = 2_048
"""Cap on the output tokens of each call, which an estimate of them never exceeds."""


@dataclass(frozen=True)
class CallEstimate:
    """Expected tokens and cost of a call: means over a sample of calls.

    Attributes:
        input_tokens: mean tokens of text and pictures.
        image_tokens: mean tokens of the pictures alone.
        output_tokens: mean tokens of the answer.
        dollars: US dollars for 1,000 calls.
    """

    input_tokens: float
    image_tokens: float
    output_tokens: float
    dollars: float


class CallBuilder:
    """Builds calls for the users and images of a catalogue with the service's own stage, and makes none."""

    def __init__(self, catalogue: Catalogue) -> None:
        """Puts a stage together over stores in memory and without a provider."""
        self._catalogue = catalogue
        metrics, stores = Metrics(), memory_stores(MEMORY_BYTES)
        self._gateway = open_gateway(GatewayOptions(), {}, stores, metrics)
        options = LvlmOptions(
            StageOptions(max_output_tokens=MAX_OUTPUT_TOKENS),
            fill_captions=False,
            thumbnail_bytes=MEMORY_BYTES,
        )
        self._lvlm = open_lvlm(options, self._gateway, stores, metrics)

    async def ranking(self, case: Case, strategy: Strategy, form: Form, k: int) -> Call:
        """Builds the call that ranks one user's candidates."""
        rows = self._catalogue.rows
        return await self._lvlm.stage.prompt(
            StageRequest(
                strategy,
                history=tuple(rows[item] for item in case.history),
                pool=tuple(rows[item] for item in case.candidates),
                k=k,
                provider=PROVIDER,
                model="",
                form=form,
            ),
            self._catalogue,
        )

    async def captions(self, images: int, seed: int) -> list[Call]:
        """Builds the calls that caption a sample of the catalogue's pictures; none if it has none."""
        items = self._catalogue.items
        # The catalogue knows which items have a picture; the file itself is opened below.
        pictured = [row for row in range(len(items)) if items[row].image]
        drawn = random.Random(seed).sample(pictured, min(images, len(pictured)))
        pictures = [image for row in drawn if (image := await self._lvlm.pictures.item(self._catalogue, row))]
        return [Call(caption_prompt(image), "", MAX_OUTPUT_TOKENS, stream=False) for image in pictures]

    def estimate(self, calls: Sequence[Call], model: str) -> CallEstimate:
        """Estimates tokens and cost of these calls to one model, as the service does to reserve dollars."""
        bills = [self._gateway.expected(PROVIDER, replace(call, model=model)) for call in calls]
        return CallEstimate(
            mean([bill.usage.input_tokens for bill in bills]),
            mean([bill.usage.image_tokens for bill in bills]),
            mean([bill.usage.output_tokens for bill in bills]),
            # A model without a price (None) was refused by the command before.
            PER * mean([bill.cost_usd or 0.0 for bill in bills]),
        )

    async def close(self) -> None:
        """Stops the stage's threads."""
        await self._lvlm.stage.close()
