"""Hands images in as batches, each of them once, whatever fails and whoever is killed."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from itertools import count

from service.captioning.backlog import Backlog, NoCaptionError, Rows, StoppedError
from service.captioning.batch_client import BatchClient
from service.captioning.submissions import Submission, Submissions
from service.lvlm.accounts import Bill
from service.lvlm.allowance import CAUTION, Allowance, Grant
from service.lvlm.attempt import Ending
from service.lvlm.gateway import Gateway
from service.lvlm.pricing import Prices
from service.lvlm.providers.base import Call, FailureKind, ProviderError, Text

LARGEST = 32 * 2**20
"""Bytes of pictures in one batch: vendors take 200 MB, base64 and JSON included, and we hold it in memory."""

MOST = 10_000
"""Requests in one batch; vendors take 50,000 and more."""

_REFUSALS = frozenset({FailureKind.AUTHENTICATION, FailureKind.REQUEST, FailureKind.RATE_LIMITED})
"""Failures after which there is certainly no batch."""


class BatchSubmitter:
    """Packs images into batches within the budgets and hands them in.

    Args:
        backlog: what to describe.
        submissions: what is with the provider.
        client: the provider's API.
        gateway: knows what a call takes.
        prices: and a batch.
        allowance: the deployment's budgets.
        budget_usd: nothing is handed in that could pass this sum; None for no limit.

    Attributes:
        over_budget: whether the next image could pass the budget.
    """

    def __init__(
        self,
        backlog: Backlog,
        submissions: Submissions,
        client: BatchClient,
        gateway: Gateway,
        prices: Prices,
        allowance: Allowance,
        *,
        budget_usd: float | None,
    ) -> None:
        self._backlog = backlog
        self._submissions = submissions
        self._client = client
        self._gateway = gateway
        self._prices = prices
        self._allowance = allowance
        self._budget = budget_usd
        self.over_budget = False

    async def find_lost(self) -> None:
        """Look at the provider for submissions of an earlier run that may never have arrived.

        Raises:
            ProviderError: the provider cannot be asked.
        """
        for submission in self._submissions:
            if submission.batches:
                continue
            submission.batches = await self._look_for(submission)
            if submission.batches:
                self._submissions.keep(submission)
            else:
                self._submissions.forget(submission)

    async def hand_in(self, waiting: Sequence[Rows]) -> None:
        """Hand images in, as far as the budget goes and until it is told to stop.

        Raises:
            ProviderError: the provider refuses a batch or fails at it.
            StoppedError: a budget of the deployment is spent.
        """
        calls: dict[str, Call] = {}
        size, committed = 0, 0.0
        for rows in waiting:
            if self._client.stopping:
                return
            try:
                call = await self._backlog.call(rows)
            except NoCaptionError as error:
                self._backlog.fail(rows, error)
                continue
            committed += CAUTION * (self._expected(call).cost_usd or 0.0)
            if self._budget is not None and self._backlog.progress.cost_usd + committed > self._budget:
                self.over_budget = True
                break
            calls[self._backlog.item_id(rows)] = call
            size += _size(call)
            if size >= LARGEST or len(calls) >= MOST:
                await self._submit(calls)
                calls, size = {}, 0
        if calls and not self._client.stopping:
            await self._submit(calls)

    def _expected(self, call: Call) -> Bill:
        bill = self._gateway.expected(self._backlog.captioner.provider, call)
        cost = None if bill.cost_usd is None else self._prices.batch_share * bill.cost_usd
        return Bill(bill.usage, cost, estimated=True)

    async def _submit(self, calls: Mapping[str, Call]) -> None:
        expected = sum((self._expected(call) for call in calls.values()), Bill())
        grant = await self._granted(expected)
        submission = Submission(tuple(calls))
        named = {submission.name(number): call for number, call in enumerate(calls.values())}
        self._submissions.keep(submission)  # before anybody is asked for money
        try:
            submission.batches = await self._submitted(submission, named)
        except ProviderError:
            await self._allowance.settle(grant, Bill())
            raise
        await self._allowance.settle(grant, expected)
        self._submissions.keep(submission)
        self._backlog.progress.tell(f"handed in {len(calls)} images as {', '.join(submission.batches)}")

    async def _submitted(self, submission: Submission, named: Mapping[str, Call]) -> tuple[str, ...]:
        doubtful = False
        for attempt in count(1):
            try:
                return (await self._client.submit(named, submission.token),)
            except ProviderError as error:
                again = self._client.retries(error, attempt)
                if again:
                    await self._client.back_off(error, attempt)
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

    async def _granted(self, expected: Bill) -> Grant:
        captioner, now = self._backlog.captioner, asyncio.get_running_loop().time()
        grant = await self._allowance.grant(captioner.provider, captioner.model, expected, now)
        if isinstance(grant, Ending):
            raise StoppedError("the budget of MSR_BUDGET_USD_… does not bear this batch")
        return grant

    async def _look_for(self, submission: Submission) -> tuple[str, ...]:
        known = {batch for each in self._submissions for batch in each.batches}
        found = await self._client.created_since(submission.at, submission.token, len(submission.items))
        return tuple(batch for batch in found if batch not in known)


def _size(call: Call) -> int:
    return sum(len(part.text) if isinstance(part, Text) else len(part.data) for part in call.prompt.parts)
