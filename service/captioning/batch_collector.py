"""Waits for the batches that are with a provider and writes the captions in them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing

from service.captioning.backlog import Backlog, NoCaptionError, Rows, StoppedError
from service.captioning.batch_client import BatchClient
from service.captioning.submissions import Submission, Submissions
from service.lvlm.captions import caption_in
from service.lvlm.pricing import Prices
from service.lvlm.providers.base import FailureKind, Finish, ProviderError, TextDelta, Usage
from service.lvlm.providers.batches import BatchResult, BatchState

FIRST_LOOK, LAST_LOOK = 0.5, 60.0
"""Seconds between looks at a batch: soon at first, then more seldom."""


class BatchCollector:
    """Fetches what came of batches.

    Args:
        backlog: what to describe.
        submissions: what is with the provider.
        client: the provider's API.
        prices: of its models.
    """

    def __init__(
        self, backlog: Backlog, submissions: Submissions, client: BatchClient, prices: Prices
    ) -> None:
        self._backlog = backlog
        self._submissions = submissions
        self._client = client
        self._prices = prices

    async def fetch_all(self, images: dict[str, Rows]) -> None:
        """Wait for everything that is with the provider, or until it is told to stop.

        Args:
            images: item id -> rows without a caption; what came through leaves it.

        Raises:
            ProviderError: the provider cannot be asked.
            StoppedError: the provider does not know a batch.
        """
        pause, told = FIRST_LOOK, ""
        while len(self._submissions) and not self._client.stopping:
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
                await self._client.sleep(pause)
                pause = min(LAST_LOOK, 1.5 * pause)

    async def _state(self, batch: str) -> BatchState:
        try:
            return await self._client.state(batch)
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
            async with aclosing(self._client.results(batch)) as results:  # type: ignore[type-var]
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
        try:
            self._backlog.keep(rows, _caption(result))
        except NoCaptionError as error:
            self._backlog.fail(rows, error)


def _caption(result: BatchResult) -> str:
    """The caption in a result.

    Raises:
        NoCaptionError: there is none.
    """
    if result.failure is FailureKind.TIMEOUT:
        raise NoCaptionError("the batch ended before its turn came")
    if result.failure:
        raise NoCaptionError(f"the call failed: {result.failure.value}")
    text = "".join(event.text for event in result.events if isinstance(event, TextDelta))
    finish = next((event for event in result.events if isinstance(event, Finish)), None)
    caption = caption_in(text, finish.reason if finish else None)
    if caption is None:
        raise NoCaptionError("the answer is no caption")
    return caption


def _word(states: Sequence[BatchState]) -> str:
    requests, answered = sum(s.requests for s in states), sum(s.answered for s in states)
    return f"batches with the provider: {len(states)}, {answered} of their {requests} images answered"
