"""Describing images by ordinary calls, several at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

from service.enhance.backlog import AccountRefusedError, Backlog, NoCaptionError, Rows, StoppedError
from service.enhance.journal import Journal
from service.lvlm.allowance import CAUTION
from service.lvlm.attempt import Ending
from service.lvlm.captions import CALL_SECONDS, caption_of
from service.lvlm.completion import Completion
from service.lvlm.gateway import Gateway
from service.lvlm.providers.base import Call, FailureKind

OUTAGE_SECONDS = 300.0
"""For which a run waits for a provider that is left alone after failures or has too much to do, or for its
turn under a limit."""

FIRST_PAUSE, LAST_PAUSE = 1.0, 15.0
"""Seconds between tries meanwhile."""


class OneByOne:
    """One run through the backlog.

    Args:
        backlog: what to describe.
        journal: where calls under way are noted.
        gateway: through which they go.
        concurrency: calls at a time.
        budget_usd: no call begins that could pass this sum; None for no limit.

    Attributes:
        stopping: no new call begins.
        over_budget: because the next one could pass the budget.
    """

    def __init__(
        self,
        backlog: Backlog,
        journal: Journal,
        gateway: Gateway,
        *,
        concurrency: int,
        budget_usd: float | None = None,
    ) -> None:
        self._backlog = backlog
        self._journal = journal
        self._gateway = gateway
        self._concurrency = concurrency
        self._budget = budget_usd
        self._reserved = 0.0
        self._under_way = 0
        self._ended = asyncio.Event()
        self.stopping = False
        self.over_budget = False

    async def run(self, waiting: Sequence[Rows]) -> None:
        """Describe these images; a caption counts once it is on the disk.

        Raises:
            AccountRefusedError: the provider refuses the account.
            StoppedError: a budget of the deployment is spent.
        """
        lost = [item_id for item_id in self._journal.lost if not self._backlog.described(item_id)]
        if lost:
            self._backlog.progress.tell(
                f"{len(lost)} calls of an earlier run ended without a caption: "
                "they may have been billed, and are made again"
            )
        images = iter(waiting)
        tasks = [asyncio.create_task(self._work(images)) for _ in range(self._concurrency)]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
            self.stopping = self.stopping or any(task.exception() for task in done)
            await asyncio.gather(*tasks)  # calls under way are paid for: they finish also when one has failed
        finally:
            self._journal.close()

    def stop(self) -> None:
        """Begin no new call."""
        if not self.stopping:
            self.stopping = True
            self._backlog.progress.tell(f"\nstopping: {self._under_way} calls under way are being finished")

    async def _work(self, images: Iterator[Rows]) -> None:
        for rows in images:
            if self.stopping:
                return
            try:
                await self._describe(rows)
            except NoCaptionError as error:
                self._backlog.fail(rows, error)
            self._backlog.progress.show()

    async def _describe(self, rows: Rows) -> None:
        backlog, item_id = self._backlog, self._backlog.item_id(rows)
        call = await backlog.call(rows)
        expected = CAUTION * (self._gateway.expected(backlog.captioner.provider, call).cost_usd or 0.0)
        if not await self._affordable(expected):
            self.stopping = self.over_budget = True
            return
        self._reserved += expected
        self._under_way += 1
        self._journal.begin(item_id)
        try:
            completion = await self._ask(call)
            caption = caption_of(completion)
            if caption is not None:
                backlog.keep(rows, caption)
            self._journal.end(item_id)
        finally:
            self._reserved -= expected
            self._under_way -= 1
            self._ended.set()
        if caption is not None:
            return
        if completion.failure is FailureKind.AUTHENTICATION:
            raise AccountRefusedError(f"{backlog.captioner.provider} refuses the calls")
        if completion.ending is Ending.BUDGET:
            raise StoppedError("the budget of MSR_BUDGET_USD_… is spent: run the same command again later")
        raise NoCaptionError(_reason(completion))

    async def _affordable(self, expected: float) -> bool:
        """Whether a call fits into the budget, perhaps once others have cost less than was reserved."""
        while self._budget is not None:
            left = self._budget - self._backlog.progress.cost_usd - self._reserved
            if expected <= left:
                return True
            if not self._under_way or self.stopping:
                return False
            self._ended.clear()
            await self._ended.wait()
        return True

    async def _ask(self, call: Call) -> Completion:
        """One call; while the provider has too much to do or is left alone, wait instead of failing."""
        clock = asyncio.get_running_loop().time
        end, pause = clock() + OUTAGE_SECONDS, FIRST_PAUSE
        while True:
            completion = await self._gateway.call(self._backlog.captioner.provider, call, CALL_SECONDS)
            self._backlog.progress.cost_usd += completion.bill.cost_usd or 0.0
            if self.stopping or clock() > end or not _comes_back(completion):
                return completion
            await asyncio.sleep(pause)
            pause = min(LAST_PAUSE, 1.5 * pause)


def _comes_back(completion: Completion) -> bool:
    """Whether it is a matter of waiting: the call was never made, or refused for being too much."""
    if completion.ending is Ending.LIMIT:
        return True
    return completion.ending is Ending.PROVIDER and completion.failure in (
        None,
        FailureKind.RATE_LIMITED,
        FailureKind.OVERLOADED,
    )


def _reason(completion: Completion) -> str:
    if completion.failure:
        return f"the call failed: {completion.failure.value}"
    if completion.reason:
        return f"the answer ended with {completion.reason.value} and is no caption"
    return f"no answer in time ({completion.ending.value})"
