"""Describing images through the provider's batch API: within a day, at half the price.

What is handed in is paid for, so it is on the disk first under a token of its own. A run that finds a
submission of which nobody knows whether it arrived looks for the token at the provider before it hands
anything in again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from itertools import count
from typing import TypeVar

from service.enhance.backlog import AccountRefusedError, Backlog, NoCaptionError, Rows, StoppedError
from service.enhance.submissions import Submission, Submissions
from service.lvlm.allowance import CAUTION, Quota, Reservation
from service.lvlm.attempt import Ending
from service.lvlm.bill import Bill
from service.lvlm.captions import caption_in
from service.lvlm.gateway import Gateway
from service.lvlm.pricing import Prices
from service.lvlm.providers.base import Call, FailureKind, Finish, ProviderError, Text, TextDelta, Usage
from service.lvlm.providers.batches import Batches, BatchResult, BatchState

LARGEST = 32 * 2**20
"""Bytes of pictures in one batch: vendors take 200 MB, base64 and JSON included, and we hold it in memory."""

MOST = 10_000
"""Requests in one batch; vendors take 50,000 and more."""

FIRST_LOOK, LAST_LOOK = 0.5, 60.0
"""Seconds between looks at a batch: soon at first, then more seldom."""

ATTEMPTS = 5
"""At handing in and at looking, before the run gives up and leaves the rest to the next one."""

_REFUSALS = frozenset({FailureKind.AUTHENTICATION, FailureKind.REQUEST, FailureKind.RATE_LIMITED})
"""Failures after which there is certainly no batch."""

T = TypeVar("T")


class InBatches:
    """One run through the backlog.

    Args:
        backlog: what to describe.
        submissions: what is with the provider.
        batches: the provider's API.
        gateway: knows what a call takes.
        prices: and a batch.
        quota: the deployment's budgets.
        budget_usd: nothing is handed in that could pass this sum; None for no limit.

    Attributes:
        stopping: hand nothing in any more, and wait no longer.
        over_budget: because the next image could pass the budget.
    """

    def __init__(
        self,
        backlog: Backlog,
        submissions: Submissions,
        batches: Batches,
        gateway: Gateway,
        prices: Prices,
        quota: Quota,
        *,
        budget_usd: float | None = None,
    ) -> None:
        self._backlog = backlog
        self._submissions = submissions
        self._batches = batches
        self._gateway = gateway
        self._prices = prices
        self._quota = quota
        self._budget = budget_usd
        self._committed = 0.0
        self._stop = asyncio.Event()
        self.over_budget = False

    @property
    def stopping(self) -> bool:
        """Whether it was told to stop."""
        return self._stop.is_set()

    def stop(self) -> None:
        """What is with the provider stays there."""
        if not self.stopping:
            self._stop.set()
            self._backlog.progress.tell("\nstopping: what is with the provider goes on there")

    async def run(self, waiting: Sequence[Rows], limit: int | None = None) -> None:
        """Fetch what is with the provider, hand in the rest, and fetch that.

        Args:
            waiting: all images without a caption.
            limit: hand in at most so many.

        Raises:
            AccountRefusedError: the provider refuses the account.
            StoppedError: the provider does not do its part, or a budget of the deployment is spent.
        """
        images = {self._backlog.item_id(rows): rows for rows in waiting}
        try:
            await self._find_lost()
            there = {item_id for submission in self._submissions for item_id in submission.items}
            new = [rows for item_id, rows in images.items() if item_id not in there][:limit]
            wanted = [*new, *(images[item_id] for item_id in there & images.keys())]
            self._backlog.progress.wanted = sum(map(len, wanted))
            await self._fetch_all(images)
            await self._hand_in([rows for rows in new if self._backlog.item_id(rows) in images])
            await self._fetch_all(images)
        except ProviderError as error:
            if error.kind is FailureKind.AUTHENTICATION:
                raise AccountRefusedError(str(error)) from None
            raise StoppedError(f"{error}: run the same command again later; nothing is lost") from None

    # --- handing in -------------------------------------------------------------------------------------

    async def _hand_in(self, waiting: Sequence[Rows]) -> None:
        calls: dict[str, Call] = {}
        size = 0
        for rows in waiting:
            if self.stopping:
                return
            try:
                call = await self._backlog.call(rows)
            except NoCaptionError as error:
                self._backlog.fail(rows, error)
                continue
            if not self._affordable(call):
                self.over_budget = True
                break
            calls[self._backlog.item_id(rows)] = call
            size += _size(call)
            if size >= LARGEST or len(calls) >= MOST:
                await self._submit(calls)
                calls, size = {}, 0
        if calls and not self.stopping:
            await self._submit(calls)

    def _affordable(self, call: Call) -> bool:
        self._committed += CAUTION * (self._expected(call).cost_usd or 0.0)
        return self._budget is None or self._backlog.progress.cost_usd + self._committed <= self._budget

    def _expected(self, call: Call) -> Bill:
        bill = self._gateway.expected(self._backlog.captioner.provider, call)
        cost = None if bill.cost_usd is None else self._prices.batch_share * bill.cost_usd
        return Bill(bill.usage, cost, estimated=True)

    async def _submit(self, calls: Mapping[str, Call]) -> None:
        expected = sum((self._expected(call) for call in calls.values()), Bill())
        reservation = await self._reserved(expected)
        submission = Submission(tuple(calls))
        named = {submission.name(number): call for number, call in enumerate(calls.values())}
        self._submissions.keep(submission)  # before anybody is asked for money
        try:
            submission.batches = await self._submitted(submission, named)
        except ProviderError:
            await self._quota.settle(reservation, Bill())
            raise
        await self._quota.settle(reservation, expected)
        self._submissions.keep(submission)
        self._backlog.progress.tell(f"handed in {len(calls)} images as {', '.join(submission.batches)}")

    async def _submitted(self, submission: Submission, named: Mapping[str, Call]) -> tuple[str, ...]:
        doubtful = False
        for attempt in count(1):
            try:
                return (await self._batches.submit(named, submission.token),)
            except ProviderError as error:
                again = self._again(error, attempt)
                if again:
                    await self._sleep(error.retry_after or 2.0**attempt)
                # An answer that was lost on its way may have been a yes, and a batch may be listed late: so
                # the look comes after the pause, and what stays in doubt is left to the next run.
                doubtful |= error.kind not in _REFUSALS
                if doubtful and (found := await self._look_for(submission)):
                    return found
                if not again:
                    if not doubtful:
                        self._submissions.forget(submission)
                    raise
        raise AssertionError("unreachable")

    async def _reserved(self, expected: Bill) -> Reservation:
        captioner, now = self._backlog.captioner, asyncio.get_running_loop().time()
        reservation = await self._quota.reserve(captioner.provider, captioner.model, expected, now)
        if isinstance(reservation, Ending):
            raise StoppedError("the budget of MSR_BUDGET_USD_… does not bear this batch")
        return reservation

    # --- finding again ----------------------------------------------------------------------------------

    async def _find_lost(self) -> None:
        for submission in self._submissions:
            if submission.batches:
                continue
            submission.batches = await self._look_for(submission)
            if submission.batches:
                self._submissions.keep(submission)
            else:
                self._submissions.forget(submission)

    async def _look_for(self, submission: Submission) -> tuple[str, ...]:
        known = {batch for each in self._submissions for batch in each.batches}
        at, token, requests = submission.at, submission.token, len(submission.items)
        found = await self._asked(lambda: self._batches.created_since(at, token, requests))
        return tuple(batch for batch in found if batch not in known)

    # --- fetching ---------------------------------------------------------------------------------------

    async def _fetch_all(self, images: dict[str, Rows]) -> None:
        """Wait for everything that is with the provider; what came through leaves ``images``."""
        pause, told = FIRST_LOOK, ""
        while len(self._submissions) and not self.stopping:
            states = []
            for submission in self._submissions:
                now = [await self._state(batch) for batch in submission.batches]
                states += now
                if all(state.ended for state in now):
                    await self._fetch(submission, images)
            word = _word(states)
            if word != told and len(self._submissions):
                self._backlog.progress.tell(word)
                told = word
            if len(self._submissions):
                await self._sleep(pause)
                pause = min(LAST_LOOK, 1.5 * pause)
        self._committed = 0.0  # what came of it is in the books now

    async def _state(self, batch: str) -> BatchState:
        try:
            return await self._asked(lambda: self._batches.state(batch))
        except ProviderError as error:
            if error.kind is not FailureKind.REQUEST:
                raise
            raise StoppedError(
                f"{error} when asked for batch {batch}: use the key that it was handed in with, or "
                f"give it up by deleting {self._submissions.path}"
            ) from None

    async def _fetch(self, submission: Submission, images: dict[str, Rows]) -> None:
        left = set(submission.items)
        for batch in submission.batches:
            async with aclosing(self._batches.results(batch)) as results:  # type: ignore[type-var]
                async for result in results:
                    item_id = submission.item(result.name)
                    if item_id is None:  # somebody else's batch of that size and time
                        break
                    left.discard(item_id)
                    self._take(result, images.pop(item_id, None))
        if len(left) < len(submission.items):  # else none of the candidates was it, and it never was
            for item_id in left & images.keys():
                self._backlog.fail(images.pop(item_id), "the batch has no result for it")
        self._submissions.forget(submission)
        self._backlog.progress.show()

    def _take(self, result: BatchResult, rows: Rows | None) -> None:
        usage = next((event for event in result.events if isinstance(event, Usage)), None)
        if usage:
            cost = self._prices.cost(self._backlog.captioner.model, usage)
            self._backlog.progress.cost_usd += self._prices.batch_share * (cost or 0.0)
        if rows is None:  # it has one by now, or left the catalogue
            return
        if result.failure is FailureKind.TIMEOUT:
            self._backlog.fail(rows, "the batch ended before its turn came")
            return
        if result.failure:
            self._backlog.fail(rows, f"the call failed: {result.failure.value}")
            return
        text = "".join(event.text for event in result.events if isinstance(event, TextDelta))
        finish = next((event for event in result.events if isinstance(event, Finish)), None)
        caption = caption_in(text, finish.reason if finish else None)
        if caption is None:
            self._backlog.fail(rows, "the answer is no caption")
        else:
            self._backlog.keep(rows, caption)

    async def _asked(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Ask the provider what costs nothing, more than once if need be."""
        for attempt in count(1):
            try:
                return await ask()
            except ProviderError as error:
                if not self._again(error, attempt):
                    raise
                await self._sleep(error.retry_after or 2.0**attempt)
        raise AssertionError("unreachable")

    def _again(self, error: ProviderError, attempt: int) -> bool:
        return error.kind.retryable and attempt < ATTEMPTS and not self.stopping

    async def _sleep(self, seconds: float) -> None:
        """Until then, or until it is told to stop."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), seconds)


def _size(call: Call) -> int:
    return sum(len(part.text) if isinstance(part, Text) else len(part.data) for part in call.prompt.parts)


def _word(states: Sequence[BatchState]) -> str:
    requests, answered = sum(s.requests for s in states), sum(s.answered for s in states)
    return f"batches with the provider: {len(states)}, {answered} of their {requests} images answered"
