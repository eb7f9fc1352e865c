"""Runs captioning through ordinary calls, one per image, several at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

from service.captioning.backlog import AccountRefusedError, Backlog, ImageRows, NoCaptionError, StoppedError
from service.captioning.journal import Journal
from service.lvlm.attempt import Ending
from service.lvlm.calls.gateway import Gateway
from service.lvlm.captions import CALL_TIMEOUT, caption_of
from service.lvlm.completion import Completion
from service.lvlm.cost.budgets_and_quotas import CAUTION
from service.lvlm.providers.base import Call, FailureKind

MAX_OUTAGE = 300.0
"""Seconds for which the call of one image is repeated while the provider is busy, its circuit breaker is open
or a limit is reached; then the image fails."""

FIRST_BACKOFF = 1.0
"""Seconds until such a call is repeated; each further wait is 1.5 times the one before."""

MAX_BACKOFF = 15.0
"""Seconds to which the waits grow at most."""


class CallRun:
    """Describes a backlog by ordinary calls.

    Args:
        backlog: images and their captions.
        journal: journal of the calls under way.
        gateway: gateway that makes the calls.
        concurrency: calls at a time, at least 1.
        limit: images to describe at most; None for no limit.
        budget_usd: dollars of this run; no call begins that could exceed them. None for no limit.

    Attributes:
        stopping: whether no new call begins.
        over_budget: whether no new call begins because of ``budget_usd``.
    """

    def __init__(
        self,
        backlog: Backlog,
        journal: Journal,
        gateway: Gateway,
        *,
        concurrency: int,
        limit: int | None = None,
        budget_usd: float | None = None,
    ) -> None:
        self._backlog = backlog
        self._journal = journal
        self._gateway = gateway
        self._concurrency = concurrency
        self._limit = limit
        self._budget = budget_usd
        self._reserved_usd = 0.0  # of the run's budget, for calls under way
        self._under_way = 0
        self._call_ended = asyncio.Event()
        self.stopping = False
        self.over_budget = False

    async def run(self, pending: Sequence[ImageRows]) -> None:
        """Describes images; each caption is on the disk before its call counts as ended.

        Args:
            pending: all images without a caption.

        Raises:
            AccountRefusedError: the provider refuses the account.
            StoppedError: a budget of the deployment is spent.
        """
        self._report_unfinished()
        pending = pending[: self._limit]
        self._backlog.progress.wanted = sum(map(len, pending))
        images = iter(pending)
        tasks = [asyncio.create_task(self._work(images)) for _ in range(self._concurrency)]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
            self.stopping = self.stopping or any(task.exception() for task in done)
            # Calls under way are paid for, so they finish even when one has failed.
            await asyncio.gather(*tasks)
        finally:
            self._journal.close()

    def stop(self) -> None:
        """Begins no new call; those under way finish."""
        if not self.stopping:
            self.stopping = True
            self._backlog.progress.report(f"\nstopping: {self._under_way} calls under way are being finished")

    def _report_unfinished(self) -> None:
        lost = [item_id for item_id in self._journal.unfinished if not self._backlog.described(item_id)]
        if lost:
            self._backlog.progress.report(
                f"{len(lost)} calls of an earlier run ended without a caption: "
                "they may have been billed, and are made again"
            )

    async def _work(self, images: Iterator[ImageRows]) -> None:
        for rows in images:  # shared by all tasks: each takes the next image that is left
            if self.stopping:
                return
            try:
                await self._describe(rows)
            except NoCaptionError as error:
                self._backlog.fail(rows, error)
            self._backlog.progress.show()

    async def _describe(self, rows: ImageRows) -> None:
        backlog, item_id = self._backlog, self._backlog.item_id(rows)
        call = await backlog.call(rows)
        # An estimate can be too low, and the budget must hold: it is reserved with a margin.
        expected_usd = CAUTION * (self._gateway.expected(backlog.captioner.provider, call).cost_usd or 0.0)
        if not await self._affordable(expected_usd):  # later images may be cheaper, but the run stops here
            self.stopping = self.over_budget = True
            return
        self._reserved_usd += expected_usd
        self._under_way += 1
        self._journal.begin(item_id)
        try:
            completion = await self._complete(call)
            caption = caption_of(completion)
            if caption is not None:
                backlog.save(rows, caption)
            self._journal.end(item_id)
        finally:
            self._reserved_usd -= expected_usd
            self._under_way -= 1
            self._call_ended.set()
        if caption is not None:
            return
        if completion.failure is FailureKind.AUTHENTICATION:
            raise AccountRefusedError(f"{backlog.captioner.provider} refuses the calls")
        if completion.ending is Ending.BUDGET:
            raise StoppedError("the budget of MSR_BUDGET_USD_… is spent: run the same command again later")
        raise NoCaptionError(_reason(completion))

    async def _affordable(self, expected_usd: float) -> bool:
        """Returns whether a call fits into the run's budget; waits if calls under way may free some of it."""
        while self._budget is not None:
            left_usd = self._budget - self._backlog.progress.cost_usd - self._reserved_usd
            if expected_usd <= left_usd:
                return True
            if not self._under_way or self.stopping:
                return False
            self._call_ended.clear()
            await self._call_ended.wait()
        return True

    async def _complete(self, call: Call) -> Completion:
        """Makes a call, and repeats it for ``MAX_OUTAGE`` seconds while its failure is temporary."""
        clock = asyncio.get_running_loop().time
        end, backoff = clock() + MAX_OUTAGE, FIRST_BACKOFF
        while True:
            completion = await self._gateway.call(self._backlog.captioner.provider, call, CALL_TIMEOUT)
            self._backlog.progress.cost_usd += completion.bill.cost_usd or 0.0
            if self.stopping or clock() > end or not _temporary(completion):
                return completion
            await asyncio.sleep(backoff)
            backoff = min(MAX_BACKOFF, 1.5 * backoff)


def _temporary(completion: Completion) -> bool:
    """Returns whether the call was not made, or was refused because of load: a later one may succeed."""
    if completion.ending is Ending.LIMIT:
        return True
    return completion.ending is Ending.PROVIDER and completion.failure in (
        None,  # the circuit breaker was open
        FailureKind.RATE_LIMITED,
        FailureKind.OVERLOADED,
    )


def _reason(completion: Completion) -> str:
    """Returns why a call gave no caption, as it is reported for its image."""
    if completion.failure:
        return f"the call failed: {completion.failure.value}"
    if completion.reason:
        return f"the answer ended with {completion.reason.value} and is no caption"
    return f"no answer in time ({completion.ending.value})"
