"""Runs captioning through the provider's batch API: within a day, at half the price."""

from __future__ import annotations

from collections.abc import Sequence

from service.captioning.backlog import AccountRefusedError, Backlog, ImageRows, StoppedError
from service.captioning.batch_client import BatchClient
from service.captioning.batch_collector import BatchCollector
from service.captioning.batch_submitter import BatchSubmitter
from service.captioning.submissions import Submissions
from service.lvlm.calls.gateway import Gateway
from service.lvlm.cost.budgets_and_quotas import Quota
from service.lvlm.cost.prices import Prices
from service.lvlm.providers.base import FailureKind, ProviderError
from service.lvlm.providers.batches import Batches


class BatchRun:
    """Describes a backlog in batches: collects earlier ones, submits the rest, and collects that.

    Args:
        backlog: images and their captions.
        submissions: batches that are with the provider.
        batches: batch API of the provider.
        gateway: estimator of a call's tokens and cost.
        prices: price table, with the share of the ordinary price that a batch costs.
        quota: budgets of the deployment.
        limit: images to submit at most, not counting those of earlier batches; None for no limit.
        budget_usd: dollars of this run; nothing is submitted that could exceed them. None for no limit.
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
        limit: int | None = None,
        budget_usd: float | None = None,
    ) -> None:
        self._backlog = backlog
        self._submissions = submissions
        self._limit = limit
        self._client = BatchClient(batches)
        self._submitter = BatchSubmitter(
            backlog, submissions, self._client, gateway, prices, quota, budget_usd=budget_usd
        )
        self._collector = BatchCollector(backlog, submissions, self._client, prices)

    @property
    def stopping(self) -> bool:
        """Whether ``stop`` was called: no batch is submitted or waited for any more."""
        return self._client.stopping

    @property
    def over_budget(self) -> bool:
        """Whether images were left out because of the run's budget."""
        return self._submitter.over_budget

    def stop(self) -> None:
        """Submits nothing more and ends all waits; batches that are with the provider stay there."""
        if not self.stopping:
            self._client.stop()
            self._backlog.progress.report("\nstopping: what is with the provider goes on there")

    async def run(self, pending: Sequence[ImageRows]) -> None:
        """Describes images.

        Args:
            pending: all images without a caption.

        Raises:
            AccountRefusedError: the provider refuses the account.
            StoppedError: the provider fails, or a budget of the deployment is spent.
        """
        images = {self._backlog.item_id(rows): rows for rows in pending}
        try:
            await self._submitter.recover()
            submitted = {item_id for submission in self._submissions for item_id in submission.items}
            new = [rows for item_id, rows in images.items() if item_id not in submitted][: self._limit]
            wanted = [*new, *(images[item_id] for item_id in submitted & images.keys())]
            self._backlog.progress.wanted = sum(map(len, wanted))
            # Earlier batches are collected first: their cost counts towards the budget of the new ones.
            await self._collector.collect_all(images)
            # An image that an earlier batch has described is no longer in ``images``.
            await self._submitter.submit_all([rows for rows in new if self._backlog.item_id(rows) in images])
            await self._collector.collect_all(images)
        except ProviderError as error:
            if error.kind is FailureKind.AUTHENTICATION:
                raise AccountRefusedError(str(error)) from None
            raise StoppedError(f"{error}: run the same command again later; nothing is lost") from None
