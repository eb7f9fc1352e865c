"""One run: opens what it takes, describes the backlog in the chosen way, and says what came of it."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import threading
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from service.enhance.backlog import Backlog, StoppedError
from service.enhance.estimate import tell_estimate
from service.enhance.in_batches import InBatches
from service.enhance.journal import Journal
from service.enhance.one_by_one import OneByOne
from service.enhance.submissions import Submissions
from service.errors import ConfigurationError
from service.lvlm.pricing import Prices
from service.metrics import Metrics
from service.settings import Settings
from service.wiring.lvlm import GatewayOptions, budget_of, open_gateway, open_quota
from service.wiring.providers import open_batches, open_providers
from service.wiring.stores import open_stores


class Way(Protocol):
    """How a backlog is described."""

    @property
    def stopping(self) -> bool:
        """Whether it was told to stop, or cannot go on."""
        ...

    @property
    def over_budget(self) -> bool:
        """Whether the next call could have passed the run's budget."""
        ...

    def stop(self) -> None:
        """Begin nothing new that costs money."""
        ...


def run(backlog: Backlog, folder: Path, arguments: argparse.Namespace, settings: Settings) -> bool:
    """Do the work; True if it was stopped from outside before its end.

    Args:
        backlog: what to describe.
        folder: of the captions, where calls under way are noted too.
        arguments: of the command.
        settings: of the deployment.

    Raises:
        AccountRefusedError: the provider refuses the account.
        BundleError: the notes of an earlier run are damaged.
        ConfigurationError: a budget was given and the model has no price, or a batch and there are none.
        StoppedError: a budget is spent.
    """
    try:
        return asyncio.run(_run(backlog, folder, arguments, settings))
    finally:
        backlog.close()
        if not arguments.dry_run:
            backlog.progress.summarise(f"captions/{backlog.captioner.name}.jsonl")


async def _run(backlog: Backlog, folder: Path, arguments: argparse.Namespace, settings: Settings) -> bool:
    captioner, progress, prices = backlog.captioner, backlog.progress, Prices.read()
    async with AsyncExitStack() as stack:
        stores = await open_stores(settings, stack)
        image_detail, only = prices.image_detail, captioner.provider
        providers = {} if arguments.dry_run else open_providers(settings, image_detail, only)
        options = replace(GatewayOptions.of(settings), concurrency=arguments.concurrency)
        gateway = open_gateway(options, providers, stores, Metrics(), prices=prices)
        stack.push_async_callback(gateway.close)
        warning = gateway.warning(captioner.provider, captioner.model)
        if warning:
            progress.tell(warning)
            if arguments.budget_usd is not None and "no price" in warning:
                raise ConfigurationError(f"--budget-usd cannot be kept: {warning}")
            if settings.unpriced_calls == "refuse" and budget_of(settings).limited and "no price" in warning:
                raise ConfigurationError(f"MSR_BUDGET_USD_… cannot be kept: {warning}")
        waiting = backlog.waiting()
        if arguments.dry_run:
            await tell_estimate(
                backlog,
                waiting[: arguments.limit],
                gateway,
                concurrency=arguments.concurrency,
                batch_share=prices.batch_share,
            )
            return False
        submissions = Submissions(folder / f"{captioner.name}.batches")
        way: InBatches | OneByOne
        if arguments.batch:
            way = InBatches(
                backlog,
                submissions,
                open_batches(settings, providers[captioner.provider]),
                gateway,
                prices,
                open_quota(replace(options, limits={}), stores),
                budget_usd=arguments.budget_usd,
            )
            work = way.run(waiting, arguments.limit)
        else:
            _refuse_what_is_with_the_provider(submissions)
            journal = Journal(folder / f"{captioner.name}.calls")
            way = OneByOne(
                backlog,
                journal,
                gateway,
                concurrency=arguments.concurrency,
                budget_usd=arguments.budget_usd,
            )
            waiting = waiting[: arguments.limit]
            progress.wanted = sum(map(len, waiting))
            work = way.run(waiting)
        if arguments.work:
            _at_end_of_input(way.stop)
        await work
    return _stopped(way, backlog, arguments.budget_usd)


def _stopped(way: Way, backlog: Backlog, budget_usd: float | None) -> bool:
    left = backlog.progress.wanted - backlog.progress.done
    if way.over_budget and left:
        raise StoppedError(
            f"the next call could pass ${budget_usd:g}: {left} images are left; the same command "
            "with another --budget-usd goes on"
        )
    return way.stopping and left > 0


def _refuse_what_is_with_the_provider(submissions: Submissions) -> None:
    images = sum(len(submission.items) for submission in submissions)
    if images:
        raise StoppedError(
            f"{images} images are with the provider in batches and are paid for: fetch them with --batch "
            "before anything is asked anew"
        )


def _at_end_of_input(stop: Callable[[], None]) -> None:
    """Stop when the parent is gone."""
    loop = asyncio.get_running_loop()

    def watch() -> None:
        while os.read(sys.stdin.fileno(), 1024):
            pass
        loop.call_soon_threadsafe(stop)

    threading.Thread(target=watch, daemon=True).start()
