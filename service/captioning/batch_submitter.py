"""Submits images as batches, each image once even if an answer is lost or a run is killed."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from itertools import count

from service.captioning.backlog import Backlog, ImageRows, NoCaptionError, StoppedError
from service.captioning.batch_client import BatchClient
from service.captioning.submissions import Submission, Submissions
from service.lvlm.attempt import Ending
from service.lvlm.bill import Bill
from service.lvlm.calls.gateway import Gateway
from service.lvlm.cost.budgets_and_quotas import CAUTION, Quota, Reservation
from service.lvlm.cost.prices import Prices
from service.lvlm.providers.base import Call, FailureKind, ProviderError, Text

MAX_BATCH_BYTES = 32 * 2**20
"""Bytes of pictures and text after which a batch is submitted and the next one begins.

Vendors take 200 MB with base64 and JSON included; a batch is held in memory until it is submitted.
"""

MAX_BATCH_REQUESTS = 10_000
"""Requests after which a batch is submitted and the next one begins; vendors take 50,000 and more."""

# The other failures leave it open whether the provider has created the batch.
_NO_BATCH = frozenset({FailureKind.AUTHENTICATION, FailureKind.REQUEST, FailureKind.RATE_LIMITED})
"""Failures after which the provider certainly holds no batch."""


class BatchSubmitter:
    """Packs images into batches within the budgets, and submits each batch once.

    A batch is paid for from its creation on. So a submission is written to the disk, with a token of its own,
    before it is sent. After a failure the provider's batches are searched for the token before its images are
    submitted again, in this run or in the next.

    Args:
        backlog: images and their captions.
        submissions: batches that are with the provider.
        client: batch API of the provider.
        gateway: estimator of a call's tokens and cost.
        prices: price table, with the share of the ordinary price that a batch costs.
        quota: budgets of the deployment.
        budget_usd: dollars of this run; nothing is submitted that could exceed them. None for no limit.

    Attributes:
        over_budget: whether images were left out because of ``budget_usd``.
    """

    def __init__(
        self,
        backlog: Backlog,
        submissions: Submissions,
        client: BatchClient,
        gateway: Gateway,
        prices: Prices,
        quota: Quota,
        *,
        budget_usd: float | None,
    ) -> None:
        self._backlog = backlog
        self._submissions = submissions
        self._client = client
        self._gateway = gateway
        self._prices = prices
        self._quota = quota
        self._budget = budget_usd
        self.over_budget = False

    async def recover(self) -> None:
        """Searches for the batches of submissions that an earlier run sent without an answer.

        A submission that the provider does not have is removed: its images are pending again.

        Raises:
            ProviderError: the provider refuses or fails after all attempts.
        """
        for submission in self._submissions:
            if submission.batches:
                continue
            submission.batches = await self._find(submission)
            if submission.batches:
                self._submissions.save(submission)
            else:
                self._submissions.remove(submission)

    async def submit_all(self, pending: Sequence[ImageRows]) -> None:
        """Submits images, as far as the budget goes and until the client is stopped.

        Raises:
            ProviderError: the provider refuses a batch, or fails at it after all attempts.
            StoppedError: a budget of the deployment is too small for a batch.
        """
        calls: dict[str, Call] = {}
        size, committed_usd = 0, 0.0
        for rows in pending:
            if self._client.stopping:
                return
            try:
                call = await self._backlog.call(rows)
            except NoCaptionError as error:
                self._backlog.fail(rows, error)
                continue
            # An estimate can be too low, and the budget must hold: it counts with a margin.
            committed_usd += CAUTION * (self._expected(call).cost_usd or 0.0)
            if self._budget is not None and self._backlog.progress.cost_usd + committed_usd > self._budget:
                self.over_budget = True
                break
            calls[self._backlog.item_id(rows)] = call
            size += _size(call)
            if size >= MAX_BATCH_BYTES or len(calls) >= MAX_BATCH_REQUESTS:
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
        reservation = await self._reserve(expected)
        submission = Submission(tuple(calls))
        named = {submission.request_name(number): call for number, call in enumerate(calls.values())}
        self._submissions.save(submission)  # before it is sent: the process may be killed from here on
        try:
            submission.batches = await self._create_batch(submission, named)
        except ProviderError:
            await self._quota.settle(reservation, Bill())
            raise
        # Settled at the estimate: the true cost is known with the results, perhaps in a later run.
        await self._quota.settle(reservation, expected)
        self._submissions.save(submission)
        self._backlog.progress.report(f"handed in {len(calls)} images as {', '.join(submission.batches)}")

    async def _create_batch(self, submission: Submission, named: Mapping[str, Call]) -> tuple[str, ...]:
        doubtful = False  # whether an attempt so far may have created the batch
        for attempt in count(1):
            try:
                return (await self._client.submit(named, submission.token),)
            except ProviderError as error:
                again = self._client.retries(error, attempt)
                if again:
                    await self._client.back_off(error, attempt)
                # Searched after the wait, because vendors list a new batch late. A batch that is not found
                # now may be listed later: without another attempt the submission stays on the disk, and the
                # next run searches again.
                doubtful |= error.kind not in _NO_BATCH
                if doubtful and (found := await self._find(submission)):
                    return found
                if not again:
                    if not doubtful:
                        self._submissions.remove(submission)
                    raise
        raise AssertionError("unreachable")

    async def _reserve(self, expected: Bill) -> Reservation:
        captioner, now = self._backlog.captioner, asyncio.get_running_loop().time()
        reservation = await self._quota.reserve(captioner.provider, captioner.model, expected, now)
        if isinstance(reservation, Ending):
            raise StoppedError("the budget of MSR_BUDGET_USD_… does not bear this batch")
        return reservation

    async def _find(self, submission: Submission) -> tuple[str, ...]:
        """Returns the provider's batches that may be this submission and belong to no other one."""
        known = {batch for each in self._submissions for batch in each.batches}
        found = await self._client.created_since(submission.at, submission.token, len(submission.items))
        return tuple(batch for batch in found if batch not in known)


def _size(call: Call) -> int:
    """Returns the bytes of a call's pictures and the characters of its text, before base64."""
    return sum(len(part.text) if isinstance(part, Text) else len(part.data) for part in call.prompt.parts)
