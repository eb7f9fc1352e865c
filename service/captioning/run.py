"""Runs captioning once: opens stores and provider, describes the backlog, and reports the result."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from service.captioning.backlog import Backlog, ImageRows, StoppedError
from service.captioning.batch_run import BatchRun
from service.captioning.call_run import CallRun
from service.captioning.estimate import report_estimate
from service.captioning.journal import Journal
from service.captioning.submissions import Submissions
from service.errors import ConfigurationError
from service.lvlm.calls.gateway import Gateway
from service.lvlm.cost.prices import Prices
from service.metrics import Metrics
from service.settings import Settings
from service.wiring.lvlm import GatewayOptions, budget_of, open_gateway, open_quota
from service.wiring.providers import open_batches, open_providers
from service.wiring.stores import open_stores


class CaptioningRun(Protocol):
    """A way to describe a backlog: ``BatchRun`` or ``CallRun``."""

    @property
    def stopping(self) -> bool:
        """Whether no new call or batch begins, because the run was stopped or cannot continue."""
        ...

    @property
    def over_budget(self) -> bool:
        """Whether images were left out because the next one could have exceeded the run's budget."""
        ...

    def stop(self) -> None:
        """Begins no new call or batch; those under way go on."""
        ...

    async def run(self, pending: Sequence[ImageRows]) -> None:
        """Describes images, given all that lack a caption."""
        ...


def run(backlog: Backlog, folder: Path, arguments: argparse.Namespace, settings: Settings) -> bool:
    """Describes a backlog, or estimates what that takes.

    Args:
        backlog: images and their captions.
        folder: folder of the captions, where the journal and the submissions are kept too.
        arguments: options of the command.
        settings: settings of the deployment.

    Returns:
        Whether the run was stopped from outside while images were left.

    Raises:
        AccountRefusedError: the provider refuses the account.
        BundleError: the submissions of an earlier run are damaged.
        ConfigurationError: a budget is given and the model has no price, or the provider has no batch API.
        StoppedError: a budget is spent, or the provider fails.
    """
    try:
        return asyncio.run(_run(backlog, folder, arguments, settings))
    finally:
        backlog.close()
        if not arguments.dry_run:
            backlog.progress.summarise(f"captions/{backlog.captioner.name}.jsonl")


async def _run(backlog: Backlog, folder: Path, arguments: argparse.Namespace, settings: Settings) -> bool:
    captioner, prices = backlog.captioner, Prices.read()
    async with AsyncExitStack() as stack:
        stores = await open_stores(settings, stack)
        # A dry run makes no call, so it needs no key.
        image_detail, only = prices.image_detail, captioner.provider
        providers = {} if arguments.dry_run else open_providers(settings, image_detail, only)
        # --concurrency takes the place of MSR_LVLM_CONCURRENCY, which is meant for serving.
        # No request waits for a caption: a second attempt beside a slow first one would only be paid twice.
        options = replace(GatewayOptions.of(settings), concurrency=arguments.concurrency, hedge=0.0)
        gateway = open_gateway(options, providers, stores, Metrics(), prices=prices)
        stack.push_async_callback(gateway.close)
        _check_price(backlog, gateway, arguments, settings)
        pending = backlog.pending()
        if arguments.dry_run:
            await report_estimate(
                backlog,
                pending[: arguments.limit],
                gateway,
                concurrency=arguments.concurrency,
                batch_share=prices.batch_share,
            )
            return False
        submissions = Submissions(folder / f"{captioner.name}.batches")
        captioning: CaptioningRun
        if arguments.batch:
            captioning = BatchRun(
                backlog,
                submissions,
                open_batches(settings, providers[captioner.provider]),
                gateway,
                prices,
                open_quota(replace(options, limits={}), stores),  # limits per minute do not apply to batches
                limit=arguments.limit,
                budget_usd=arguments.budget_usd,
            )
        else:
            _refuse_submitted(submissions)
            captioning = CallRun(
                backlog,
                Journal(folder / f"{captioner.name}.calls"),
                gateway,
                concurrency=arguments.concurrency,
                limit=arguments.limit,
                budget_usd=arguments.budget_usd,
            )
        if arguments.work:
            _call_at_end_of_input(captioning.stop)
        await captioning.run(pending)
    return _stopped(captioning, backlog, arguments.budget_usd)


def _check_price(
    backlog: Backlog, gateway: Gateway, arguments: argparse.Namespace, settings: Settings
) -> None:
    """Warns of a model without a price; refuses it if there is a budget, which could not be kept."""
    warning = gateway.price_warning(backlog.captioner.provider, backlog.captioner.model)
    if not warning:
        return
    backlog.progress.report(warning)
    if "no price" not in warning:
        return
    if arguments.budget_usd is not None:
        raise ConfigurationError(f"--budget-usd cannot be kept: {warning}")
    if settings.unpriced_calls == "refuse" and budget_of(settings).limited:
        raise ConfigurationError(f"MSR_BUDGET_USD_… cannot be kept: {warning}")


def _stopped(captioning: CaptioningRun, backlog: Backlog, budget_usd: float | None) -> bool:
    left = backlog.progress.wanted - backlog.progress.done
    if captioning.over_budget and left:
        raise StoppedError(
            f"the next call could pass ${budget_usd:g}: {left} images are left; the same command "
            "with another --budget-usd goes on"
        )
    return captioning.stopping and left > 0


def _refuse_submitted(submissions: Submissions) -> None:
    """Refuses a run by calls while batches are with the provider, whose images would be paid for twice."""
    images = sum(len(submission.items) for submission in submissions)
    if images:
        raise StoppedError(
            f"{images} images are with the provider in batches and are paid for: fetch them with --batch "
            "before anything is asked anew"
        )


def _call_at_end_of_input(stop: Callable[[], None]) -> None:
    """Calls ``stop`` once the standard input ends, which is when the parent closes the pipe or has ended."""
    loop = asyncio.get_running_loop()

    def read_to_end() -> None:
        while os.read(sys.stdin.fileno(), 1024):
            pass
        loop.call_soon_threadsafe(stop)

    # A daemon, because the read may outlast the run: a thread that waits for it must not keep the process.
    threading.Thread(target=read_to_end, daemon=True).start()
