"""Describing images through the provider's batch API: within a day, at half the price.

What is handed in is paid for, so it is on the disk first under a token of its own. A run that finds a
submission of which nobody knows whether it arrived looks for the token at the provider before it hands
anything in again.
"""

from __future__ import annotations

from collections.abc import Sequence

from service.captioning.backlog import AccountRefusedError, Backlog, Rows, StoppedError
from service.captioning.batch_client import BatchClient
from service.captioning.batch_collector import BatchCollector
from service.captioning.batch_submitter import BatchSubmitter
from service.captioning.submissions import Submissions
from service.lvlm.allowance import Allowance
from service.lvlm.gateway import Gateway
from service.lvlm.pricing import Prices
from service.lvlm.providers.base import FailureKind, ProviderError
from service.lvlm.providers.batches import Batches


class InBatches:
    """One run through the backlog.

    Args:
        backlog: what to describe.
        submissions: what is with the provider.
        batches: the provider's API.
        gateway: knows what a call takes.
        prices: and a batch.
        allowance: the deployment's budgets.
        budget_usd: nothing is handed in that could pass this sum; None for no limit.
    """

    def __init__(
        self,
        backlog: Backlog,
        submissions: Submissions,
        batches: Batches,
        gateway: Gateway,
        prices: Prices,
        allowance: Allowance,
        *,
        budget_usd: float | None = None,
    ) -> None:
        self._backlog = backlog
        self._submissions = submissions
        self._client = BatchClient(batches)
        self._submitter = BatchSubmitter(
            backlog, submissions, self._client, gateway, prices, allowance, budget_usd=budget_usd
        )
        self._collector = BatchCollector(backlog, submissions, self._client, prices)

    @property
    def stopping(self) -> bool:
        """Whether it was told to stop: nothing is handed in any more, and nothing waited for."""
        return self._client.stopping

    @property
    def over_budget(self) -> bool:
        """Whether the next image could have passed the budget."""
        return self._submitter.over_budget

    def stop(self) -> None:
        """What is with the provider stays there."""
        if not self.stopping:
            self._client.stop()
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
            await self._submitter.find_lost()
            there = {item_id for submission in self._submissions for item_id in submission.items}
            new = [rows for item_id, rows in images.items() if item_id not in there][:limit]
            wanted = [*new, *(images[item_id] for item_id in there & images.keys())]
            self._backlog.progress.wanted = sum(map(len, wanted))
            await self._collector.fetch_all(images)
            await self._submitter.hand_in([rows for rows in new if self._backlog.item_id(rows) in images])
            await self._collector.fetch_all(images)
        except ProviderError as error:
            if error.kind is FailureKind.AUTHENTICATION:
                raise AccountRefusedError(str(error)) from None
            raise StoppedError(f"{error}: run the same command again later; nothing is lost") from None
