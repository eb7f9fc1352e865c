"""Speaks Anthropic's message batches: requests go in as one body, results come out as one stream of lines.

Format: https://docs.anthropic.com/en/api/creating-message-batches.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

from service.lvlm.providers.anthropic.messages import AnthropicMessages
from service.lvlm.providers.base import Call, FailureKind, ProviderError
from service.lvlm.providers.batches import CLOCKS_APART, BatchResult, BatchState
from service.lvlm.providers.wire.failures import failure
from service.lvlm.providers.wire.untrusted_json import record, text


class AnthropicBatches:
    """Makes batches of messages; see Batches."""

    def __init__(self, messages: AnthropicMessages) -> None:
        self._messages = messages
        self._batches = messages.client.messages.batches

    async def submit(self, calls: Mapping[str, Call], token: str) -> str:
        """See Batches; the token is part of the requests' names alone, since a batch has no metadata."""
        requests = [
            {"custom_id": name, "params": self._messages.request(call)} for name, call in calls.items()
        ]
        with self._messages.failures():
            return str((await self._batches.create(requests=requests)).id)

    async def created_since(self, at: float, token: str, requests: int) -> list[str]:
        """See Batches; returns every batch of that size, since nothing else tells them apart."""
        found = []
        with self._messages.failures():
            async for batch in self._batches.list(limit=100):  # newest first
                if batch.created_at.timestamp() < at - CLOCKS_APART:
                    break
                if _state(batch).requests == requests:
                    found.append(str(batch.id))
        return found

    async def state(self, batch: str) -> BatchState:
        """See Batches."""
        with self._messages.failures():
            return _state(await self._batches.retrieve(batch))

    async def results(self, batch: str) -> AsyncIterator[BatchResult]:
        """See Batches."""
        with self._messages.failures():
            async for entry in await self._batches.results(batch):
                fields = record(entry.to_dict())
                if name := text(
                    fields.get("custom_id")
                ):  # a result without a name answers no request of ours
                    yield self._result(name, record(fields.get("result")))

    def _result(self, name: str, result: Mapping[str, Any]) -> BatchResult:
        match result.get("type"):
            case "succeeded":
                try:
                    return BatchResult(name, tuple(self._messages.events(result.get("message"), "")))
                except ProviderError as error:
                    return BatchResult(name, failure=error.kind)
            case "errored":
                return BatchResult(name, failure=failure(200, result.get("error")).kind)
        return BatchResult(name, failure=FailureKind.TIMEOUT)  # expired or cancelled: the call was never made


def _state(batch: Any) -> BatchState:
    counts = batch.request_counts
    answered = counts.succeeded + counts.errored + counts.canceled + counts.expired
    return BatchState(batch.processing_status == "ended", answered + counts.processing, answered)
