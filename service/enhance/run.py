"""One run: which images wait, the calls that describe them, and the estimate beforehand."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

from models.contracts import Caption
from service.bundle import Catalogue
from service.enhance.journal import Journal
from service.enhance.progress import Progress
from service.errors import ConfigurationError
from service.lvlm.accounts import Bill
from service.lvlm.caption_file import CaptionFile
from service.lvlm.captions import CALL_SECONDS, caption_call, caption_of
from service.lvlm.gateway import Completion, Ending, Gateway
from service.lvlm.pictures import Pictures
from service.lvlm.pricing import Prices
from service.lvlm.prompts import CAPTION_VERSION
from service.lvlm.providers.base import Call, FailureKind, Image
from service.lvlm.thumbnails import ThumbnailCache
from service.metrics import Metrics
from service.settings import Settings
from service.wiring import open_gateway, open_provider, open_stores

OUTAGE_SECONDS = 300.0
"""For which a run waits for a provider that is left alone after failures, or for its turn under a limit."""

SAMPLED = 100
"""Images that an estimate looks at."""

ASSUMED_SECONDS = 3.0
"""Per call, for the estimate of the time."""

BATCH_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class Captioner:
    """Who describes: a model at a provider, and the name of its file in the bundle."""

    provider: str
    model: str
    name: str


class AccountRefusedError(Exception):
    """The provider refuses the key or the account: no other image will do better."""


class StoppedError(Exception):
    """The run ends before its time; the message says why and how to go on."""


class _NoCaptionError(Exception):
    """One image has no caption; the message says why."""


class Enhancement:
    """One run over one catalogue by one captioner.

    Args:
        catalogue: whose images are described.
        file: where captions go.
        journal: where calls under way are noted.
        captioner: who describes.
        max_output_tokens: cap of a caption.
        budget_usd: no call begins that could pass this sum; None for no limit.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        file: CaptionFile,
        journal: Journal,
        captioner: Captioner,
        *,
        max_output_tokens: int,
        budget_usd: float | None = None,
    ) -> None:
        self._catalogue = catalogue
        self._file = file
        self._journal = journal
        self._max_output_tokens = max_output_tokens
        self._budget = budget_usd
        self._reserved = 0.0
        self._pictures = Pictures(catalogue, ThumbnailCache(0))
        self.captioner = captioner
        self.progress = Progress(0)
        self.draining = False
        self.over_budget = False
        self._under_way = 0

    @property
    def lost(self) -> tuple[str, ...]:
        """Items whose calls an earlier run began and never ended, and that have no caption now."""
        return tuple(item_id for item_id in self._journal.lost if item_id not in self._file.latest)

    def waiting(self) -> list[tuple[int, ...]]:
        """Rows of the items whose image has no caption by the current prompt, equal images together.

        An image that has a caption under one of its items gets the same under the others, for nothing.
        """
        items, latest = self._catalogue.items, self._file.latest
        groups: dict[str, list[int]] = {}
        for row, item in enumerate(items):
            if item.image:
                groups.setdefault(item.image_sha256 or item.item_id, []).append(row)
        waiting = []
        for rows in groups.values():
            current = {
                row: caption
                for row in rows
                if (caption := latest.get(items[row].item_id)) and caption.prompt_version == CAPTION_VERSION
            }
            missing = tuple(row for row in rows if row not in current)
            if missing and current:
                self._write(missing, next(iter(current.values())).caption)
            elif missing:
                waiting.append(missing)
        return waiting

    async def caption(self, waiting: Sequence[tuple[int, ...]], gateway: Gateway, concurrency: int) -> None:
        """Caption these images, several at a time; a caption counts once it is on the disk.

        Raises:
            AccountRefusedError: the provider refuses the account.
            StoppedError: a budget of the deployment is spent.
        """
        self.progress = Progress(sum(map(len, waiting)))
        groups = iter(waiting)
        tasks = [asyncio.create_task(self._work(groups, gateway)) for _ in range(concurrency)]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
            self.draining = self.draining or any(task.exception() for task in done)
            await asyncio.gather(*tasks)  # calls under way are paid for: they finish also when one has failed
        finally:
            self._pictures.close()
            self._journal.close()

    def drain(self) -> None:
        """Begin no new call."""
        if not self.draining:
            self.draining = True
            self.progress.tell(f"\nstopping: {self._under_way} calls under way are being finished")

    async def estimate(self, waiting: Sequence[tuple[int, ...]], gateway: Gateway) -> Bill | None:
        """What one image takes, the mean over some of them; None if none can be read."""
        step = max(1, len(waiting) // SAMPLED)
        images = [await self._pictures.item(rows[0]) for rows in waiting[::step]]
        bills = [gateway.expected(self.captioner.provider, self._call(image)) for image in images if image]
        self._pictures.close()
        return sum(bills[1:], bills[0]).mean(len(bills)) if bills else None

    async def _work(self, groups: Iterator[tuple[int, ...]], gateway: Gateway) -> None:
        for rows in groups:
            if self.draining:
                return
            item_id = self._catalogue.items[rows[0]].item_id
            try:
                await self._one(rows, item_id, gateway)
            except _NoCaptionError as error:
                self.progress.failures.update(
                    {self._catalogue.items[row].item_id: str(error) for row in rows}
                )
            self.progress.show()

    async def _one(self, rows: tuple[int, ...], item_id: str, gateway: Gateway) -> None:
        image = await self._pictures.item(rows[0])
        if image is None:
            raise _NoCaptionError("its image cannot be read")
        expected = gateway.expected(self.captioner.provider, self._call(image)).cost_usd or 0.0
        if self._budget is not None and self.progress.cost_usd + self._reserved + expected > self._budget:
            self.draining = self.over_budget = True
            return
        self._reserved += expected
        self._under_way += 1
        self._journal.begin(item_id)
        try:
            completion = await self._ask(image, gateway)
            self.progress.cost_usd += completion.cost_usd or 0.0
            caption = caption_of(completion)
            if caption is not None:
                self._write(rows, caption)
                self.progress.written += len(rows)
            self._journal.end(item_id)
        finally:
            self._reserved -= expected
            self._under_way -= 1
        if caption is not None:
            return
        if completion.failure is FailureKind.AUTHENTICATION:
            raise AccountRefusedError(f"{self.captioner.provider} refuses the calls")
        if completion.ending is Ending.BUDGET:
            raise StoppedError("the budget of MSR_BUDGET_USD_… is spent: run the same command again later")
        raise _NoCaptionError(_reason(completion))

    async def _ask(self, image: Image, gateway: Gateway) -> Completion:
        """One call; while the provider is left alone after failures, wait instead of failing every image."""
        clock = asyncio.get_running_loop().time
        end = clock() + OUTAGE_SECONDS
        while True:
            completion = await gateway.call(self.captioner.provider, self._call(image), CALL_SECONDS)
            never_asked = completion.ending is Ending.LIMIT or (
                completion.ending is Ending.PROVIDER and completion.failure is None
            )
            if not never_asked or self.draining or clock() > end:
                return completion
            await asyncio.sleep(1.0)

    def _call(self, image: Image) -> Call:
        return caption_call(image, self.captioner.model, self._max_output_tokens)

    def _write(self, rows: Sequence[int], text: str) -> None:
        captioner = self.captioner
        for row in rows:
            item_id = self._catalogue.items[row].item_id
            self._file.append(Caption(item_id, captioner.provider, captioner.model, CAPTION_VERSION, text))


def run(enhancement: Enhancement, arguments: argparse.Namespace, settings: Settings) -> bool:
    """Do the work; True if it was stopped from outside before its end.

    Raises:
        AccountRefusedError: the provider refuses the account.
        ConfigurationError: a budget was given and the model has no price.
        StoppedError: a budget is spent.
    """
    try:
        return asyncio.run(_run(enhancement, arguments, settings))
    finally:
        if not arguments.dry_run:
            enhancement.progress.summarise(f"captions/{enhancement.captioner.name}.jsonl")


async def _run(enhancement: Enhancement, arguments: argparse.Namespace, settings: Settings) -> bool:
    captioner, prices = enhancement.captioner, Prices.read()
    async with AsyncExitStack() as stack:
        stores = await open_stores(settings, stack)
        provider = open_provider(captioner.provider, settings, prices)
        gateway = open_gateway(
            settings, {captioner.provider: provider}, prices, Metrics(), stores, arguments.concurrency
        )
        stack.push_async_callback(gateway.close)
        warning = gateway.warning(captioner.provider, captioner.model)
        if warning:
            enhancement.progress.tell(warning)
            if arguments.budget_usd is not None and "no price" in warning:
                raise ConfigurationError(f"--budget-usd cannot be kept: {warning}")
        if enhancement.lost:
            enhancement.progress.tell(
                f"{len(enhancement.lost)} calls of an earlier run ended without a caption: "
                "they may have been billed, and are made again"
            )
        waiting = enhancement.waiting()[: arguments.limit]
        if arguments.dry_run:
            await _tell_estimate(enhancement, waiting, gateway, arguments)
            return False
        if arguments.work:
            _drain_at_end_of_input(enhancement)
        await enhancement.caption(waiting, gateway, arguments.concurrency)
    left = enhancement.progress.wanted - enhancement.progress.done
    if enhancement.over_budget and left:
        raise StoppedError(
            f"the next call could pass ${arguments.budget_usd:g}: {left} images are left; the same command "
            "with another --budget-usd goes on"
        )
    return enhancement.draining and left > 0


async def _tell_estimate(
    enhancement: Enhancement,
    waiting: Sequence[tuple[int, ...]],
    gateway: Gateway,
    arguments: argparse.Namespace,
) -> None:
    each = await enhancement.estimate(waiting, gateway)
    tell, images = enhancement.progress.tell, len(waiting)
    tell(f"{images} images to describe with {enhancement.captioner.provider}/{enhancement.captioner.model}")
    if each is None:
        return
    usage = each.usage
    tell(
        f"estimated per image: {usage.input_tokens} input tokens ({usage.image_tokens} for the picture), "
        f"{usage.output_tokens} output tokens"
    )
    if each.cost_usd is not None:
        total = each.cost_usd * images
        tell(
            f"estimated cost: ${total:.4f}; half of it, ${BATCH_SHARE * total:.4f}, at vendors' batch prices"
        )
    minutes = images * ASSUMED_SECONDS / arguments.concurrency / 60
    tell(
        f"about {minutes:.0f} minutes, {arguments.concurrency} calls at a time of {ASSUMED_SECONDS:g} s each"
    )


def _drain_at_end_of_input(enhancement: Enhancement) -> None:
    """Stop beginning calls when the parent is gone."""
    loop = asyncio.get_running_loop()

    def watch() -> None:
        while os.read(sys.stdin.fileno(), 1024):
            pass
        loop.call_soon_threadsafe(enhancement.drain)

    threading.Thread(target=watch, daemon=True).start()


def _reason(completion: Completion) -> str:
    if completion.failure:
        return f"the call failed: {completion.failure.value}"
    if completion.reason:
        return f"the answer ended with {completion.reason.value} and is no caption"
    return f"no answer in time ({completion.ending.value})"
