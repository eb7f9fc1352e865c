"""Collects the results of batches: waits until the batches have ended, and writes their captions."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing

from service.captioning.backlog import Backlog, ImageRows, NoCaptionError, StoppedError
from service.captioning.batch_client import BatchClient
from service.captioning.submissions import Submission, Submissions
from service.lvlm.captions import caption_in
from service.lvlm.cost.prices import Prices
from service.lvlm.providers.base import FailureKind, Finish, ProviderError, TextDelta, Usage
from service.lvlm.providers.batches import BatchResult, BatchState

FIRST_POLL_INTERVAL = 0.5
"""Seconds between the first two polls of a batch; each further interval is 1.5 times the one before."""

MAX_POLL_INTERVAL = 60.0
"""Seconds to which the interval between two polls grows at most."""


class BatchCollector:
    """Polls the batches that are with a provider and writes the captions of those that have ended.

    Args:
        backlog: images and their captions.
        submissions: batches that are with the provider.
        client: batch API of the provider.
        prices: price table, with the share of the ordinary price that a batch costs.
    """

    def __init__(
        self, backlog: Backlog, submissions: Submissions, client: BatchClient, prices: Prices
    ) -> None:
        self._backlog = backlog
        self._submissions = submissions
        self._client = client
        self._prices = prices

    async def collect_all(self, images: dict[str, ImageRows]) -> None:
        """Waits for every batch that is with the provider, or until the client is stopped.

        Args:
            images: rows of each image without a caption, by item id; those with a result are removed.

        Raises:
            ProviderError: the provider refuses or fails after all attempts.
            StoppedError: the provider does not know a batch.
        """
        interval, reported = FIRST_POLL_INTERVAL, ""
        while len(self._submissions) and not self._client.stopping:
            states = []
            for submission in self._submissions:
                current = [await self._state(batch) for batch in submission.batches]
                states += current
                if all(state.ended for state in current):
                    await self._collect(submission, images)
            if len(self._submissions):
                summary = _summary(states)
                if summary != reported:
                    self._backlog.progress.report(summary)
                    reported = summary
                await self._client.sleep(interval)
                interval = min(MAX_POLL_INTERVAL, 1.5 * interval)

    async def _state(self, batch: str) -> BatchState:
        try:
            return await self._client.state(batch)
        except ProviderError as error:
            if error.kind is not FailureKind.REQUEST:
                raise
            # Most likely the key is another account's. The batch exists and is paid for: it is not given up.
            raise StoppedError(
                f"{error} when asked for batch {batch}: use the key that it was handed in with, or "
                f"give it up by deleting {self._submissions.path}"
            ) from None

    async def _collect(self, submission: Submission, images: dict[str, ImageRows]) -> None:
        missing = set(submission.items)
        for batch in submission.batches:
            # The type of an async iterator does not promise aclose(); ours are generators, which have it.
            async with aclosing(self._client.results(batch)) as results:  # type: ignore[type-var]
                async for result in results:
                    item_id = submission.item_id(result.name)
                    # `created_since` may find another submission's batch of the same size and time.
                    if item_id is None:
                        break
                    missing.discard(item_id)
                    self._take(result, images.pop(item_id, None))
        # Without any result none of the batches was this submission. It never reached the provider, and its
        # images stay pending.
        if len(missing) < len(submission.items):
            for item_id in missing & images.keys():
                self._backlog.fail(images.pop(item_id), "the batch has no result for it")
        self._submissions.remove(submission)
        self._backlog.progress.show()

    def _take(self, result: BatchResult, rows: ImageRows | None) -> None:
        usage = next((event for event in result.events if isinstance(event, Usage)), None)
        if usage:
            cost = self._prices.cost(self._backlog.captioner.model, usage)
            self._backlog.progress.cost_usd += self._prices.batch_share * (cost or 0.0)
        if rows is None:  # described meanwhile, or no longer in the catalogue
            return
        try:
            self._backlog.save(rows, _caption(result))
        except NoCaptionError as error:
            self._backlog.fail(rows, error)


def _caption(result: BatchResult) -> str:
    """Reads the caption in a result.

    Raises:
        NoCaptionError: there is none.
    """
    if result.failure is FailureKind.TIMEOUT:
        raise NoCaptionError("the batch ended before its turn came")  # it expired or was cancelled
    if result.failure:
        raise NoCaptionError(f"the call failed: {result.failure.value}")
    text = "".join(event.text for event in result.events if isinstance(event, TextDelta))
    finish = next((event for event in result.events if isinstance(event, Finish)), None)
    caption = caption_in(text, finish.reason if finish else None)
    if caption is None:
        raise NoCaptionError("the answer is no caption")
    return caption


def _summary(states: Sequence[BatchState]) -> str:
    requests, answered = sum(s.requests for s in states), sum(s.answered for s in states)
    return f"batches with the provider: {len(states)}, {answered} of their {requests} images answered"
