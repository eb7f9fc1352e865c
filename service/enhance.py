"""``python -m service enhance``: describe every item image of a bundle once, for the enhanced view."""

from __future__ import annotations

import argparse
import asyncio
import re
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

from models.contracts import CAPTIONS, CATALOGUE, BundleError, Caption
from service.bundle import Catalogue, open_catalogue
from service.companion import simulator_beside
from service.errors import ConfigurationError
from service.lvlm.caption_file import CaptionFile
from service.lvlm.captions import caption_of, captioner_name, describe
from service.lvlm.gateway import Completion, Gateway
from service.lvlm.pictures import Pictures
from service.lvlm.pricing import Prices
from service.lvlm.prompts import CAPTION_VERSION
from service.lvlm.providers.base import FailureKind
from service.lvlm.thumbnails import ThumbnailCache
from service.metrics import Metrics
from service.settings import Settings, read_settings
from service.wiring import open_gateway, open_provider, open_stores

FAILURES_NAMED = 20


@dataclass(frozen=True, slots=True)
class Captioner:
    """Who describes: a model at a provider, and the name of its file in the bundle."""

    provider: str
    model: str
    name: str


@dataclass
class Progress:
    """How far a run is.

    Attributes:
        wanted: images without a caption when it began.
        cost_usd: of all calls so far, those with a known price.
        failures: item id -> why it has no caption.
    """

    wanted: int
    written: int = 0
    cost_usd: float = 0.0
    failures: dict[str, str] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)

    def show(self) -> None:
        """One line that replaces itself on a terminal; now and then a line of its own elsewhere."""
        done = self.written + len(self.failures)
        if not sys.stderr.isatty() and done % 100 and done != self.wanted:
            return
        rate = done / max(time.monotonic() - self.began, 1e-9)
        line = f"{done}/{self.wanted} images, {rate:.1f}/s, ${self.cost_usd:.4f}, {len(self.failures)} failed"
        sys.stderr.write(f"\r{line}\x1b[K" if sys.stderr.isatty() else f"{line}\n")
        sys.stderr.flush()


class AccountRefusedError(Exception):
    """The provider refuses the key or the account: no other image will do better."""


class _NoCaptionError(Exception):
    """One image has no caption; the message says why."""


def main(argv: Sequence[str]) -> int:
    """Run the command and return its exit status: 1 if an image has no caption at the end, 130 if stopped."""
    arguments = _parser().parse_args(argv)
    try:
        settings = read_settings()
        captioner = _captioner(arguments, settings)
        catalogue = open_catalogue(arguments.bundle / CATALOGUE)
        with CaptionFile(catalogue.folder / CAPTIONS / f"{captioner.name}.jsonl") as file:
            enhancement = Enhancement(
                catalogue, file, captioner, max_output_tokens=settings.max_output_tokens
            )
            try:
                with simulator_beside(settings):
                    asyncio.run(_run(enhancement, captioner, arguments, read_settings()))
            except KeyboardInterrupt:
                sys.stderr.write(
                    "\nstopped; everything written is kept, the same command goes on from here\n"
                )
                return 130
            finally:
                _summary(enhancement.progress, file)
    except (ConfigurationError, BundleError) as error:
        sys.stderr.write(f"enhance: {error}\n")
        return 2
    except AccountRefusedError as error:
        sys.stderr.write(f"enhance: {error}: check the provider's API key, then run the same command again\n")
        return 1
    return 1 if enhancement.progress.failures else 0


class Enhancement:
    """One run over one catalogue by one captioner."""

    def __init__(
        self, catalogue: Catalogue, file: CaptionFile, captioner: Captioner, *, max_output_tokens: int
    ) -> None:
        self._catalogue = catalogue
        self._file = file
        self._captioner = captioner
        self._max_output_tokens = max_output_tokens
        self._pictures = Pictures(catalogue, ThumbnailCache(0))
        self.progress = Progress(0)

    def waiting(self) -> list[int]:
        """Rows of the items whose image has no caption by the current prompt."""
        items = self._catalogue.items
        versions = self._file.versions
        return [
            row
            for row, item in enumerate(items)
            if item.image and versions.get(item.item_id) != CAPTION_VERSION
        ]

    async def caption(self, rows: Sequence[int], gateway: Gateway, concurrency: int) -> None:
        """Caption these items' images, several at a time; a caption counts once it is on the disk.

        Raises:
            AccountRefusedError: the provider refuses the account.
        """
        self.progress = Progress(len(rows))
        waiting = iter(rows)
        tasks = [asyncio.create_task(self._work(waiting, gateway)) for _ in range(concurrency)]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._pictures.close()

    async def _work(self, waiting: Iterator[int], gateway: Gateway) -> None:
        for row in waiting:
            item_id = self._catalogue.items[row].item_id
            try:
                await self._one(row, item_id, gateway)
            except _NoCaptionError as error:
                self.progress.failures[item_id] = str(error)
            self.progress.show()

    async def _one(self, row: int, item_id: str, gateway: Gateway) -> None:
        provider, model = self._captioner.provider, self._captioner.model
        image = await self._pictures.item(row)
        if image is None:
            raise _NoCaptionError("its image cannot be read")
        completion = await describe(gateway, provider, model, image, self._max_output_tokens)
        self.progress.cost_usd += completion.cost_usd or 0.0
        if completion.failure is FailureKind.AUTHENTICATION:
            raise AccountRefusedError(f"{provider} refuses the calls")
        caption = caption_of(completion)
        if caption is None:
            raise _NoCaptionError(_reason(completion))
        self._file.append(Caption(item_id, provider, model, CAPTION_VERSION, caption))
        self.progress.written += 1


async def _run(
    enhancement: Enhancement, captioner: Captioner, arguments: argparse.Namespace, settings: Settings
) -> None:
    prices = Prices.read()
    provider = open_provider(captioner.provider, settings, prices)
    stack = AsyncExitStack()
    stores = await open_stores(settings, stack)
    gateway = open_gateway(
        settings, {captioner.provider: provider}, prices, Metrics(), stores, arguments.concurrency
    )
    warning = gateway.warning(captioner.provider, captioner.model)
    if warning:
        sys.stderr.write(f"{warning}\n")
    try:
        await enhancement.caption(enhancement.waiting()[: arguments.limit], gateway, arguments.concurrency)
    finally:
        await gateway.close()
        await stack.aclose()


def _reason(completion: Completion) -> str:
    if completion.failure:
        return f"the call failed: {completion.failure.value}"
    if completion.reason:
        return f"the answer ended with {completion.reason.value} and is no caption"
    return f"no answer in time ({completion.ending.value})"


def _summary(progress: Progress, file: CaptionFile) -> None:
    sys.stderr.write("\n" if sys.stderr.isatty() else "")
    sys.stderr.write(
        f"{progress.written} captions written to {file.path}, {len(progress.failures)} failed, "
        f"${progress.cost_usd:.4f}\n"
    )
    for item_id, reason in list(progress.failures.items())[:FAILURES_NAMED]:
        sys.stderr.write(f"  {item_id}: {reason}\n")
    if len(progress.failures) > FAILURES_NAMED:
        sys.stderr.write(f"  and {len(progress.failures) - FAILURES_NAMED} more\n")


def _captioner(arguments: argparse.Namespace, settings: Settings) -> Captioner:
    """Whom the arguments name.

    Raises:
        ConfigurationError: not a configured provider, or not a file-safe name.
    """
    provider = arguments.provider or settings.provider
    if provider not in settings.models:
        raise ConfigurationError(f"no provider {provider!r}; configured are {', '.join(settings.models)}")
    model = arguments.model or settings.models[provider][0]
    name = arguments.captioner or captioner_name(provider, model)
    if not re.fullmatch(r"\w[\w.-]*", name, re.ASCII):
        raise ConfigurationError(f"the captioner {name!r} names a file: letters, digits, '.', '_' and '-'")
    return Captioner(provider, model, name)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m service enhance",
        description="Describe every item image of a bundle with an LVLM. Captions are appended to "
        "catalogue/captions/<captioner>.jsonl as they come; images that have one are left alone, so the same "
        "command goes on where an earlier run stopped.",
    )
    parser.add_argument("--bundle", type=Path, required=True, help="the folder that holds catalogue/")
    parser.add_argument("--provider", help="a configured provider; default: MSR_PROVIDER")
    parser.add_argument("--model", help="any of its models; default: its first configured one")
    parser.add_argument("--captioner", help="name of the file; default: <provider>-<model>")
    parser.add_argument("--limit", type=_positive, help="caption at most this many images now")
    parser.add_argument("--concurrency", type=_positive, default=4, help="calls at a time; default: 4")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 1")
    return number
