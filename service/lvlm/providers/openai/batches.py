"""Speaks OpenAI's batch API: a file of requests goes in, a file of answers and one of errors come out.

Format: https://platform.openai.com/docs/guides/batch.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

import orjson

from service.lvlm.providers.base import Call, FailureKind, ProviderError
from service.lvlm.providers.batches import CLOCKS_APART, BatchResult, BatchState
from service.lvlm.providers.openai.chat import OpenAIChat
from service.lvlm.providers.wire.failures import failure
from service.lvlm.providers.wire.untrusted_json import count, load, record, text

_METADATA_FIELD = "msr_serve"  # name of the batch's metadata field that holds the token
_ENDPOINT = "/v1/chat/completions"
_ENDED = ("completed", "expired", "cancelled")
_OK = 200


class OpenAIBatches:
    """Makes batches of chat completions; see Batches."""

    def __init__(self, chat: OpenAIChat) -> None:
        self._chat = chat
        self._client = chat.client

    async def submit(self, calls: Mapping[str, Call], token: str) -> str:
        """See Batches. An upload without a batch, as after a crash between the two, costs nothing."""
        lines = b"".join(
            orjson.dumps(
                {"custom_id": name, "method": "POST", "url": _ENDPOINT, "body": self._chat.request(call)}
            )
            + b"\n"
            for name, call in calls.items()
        )
        with self._chat.failures():
            file = await self._client.files.create(file=(f"{token}.jsonl", lines), purpose="batch")
            batch = await self._client.batches.create(
                input_file_id=file.id,
                endpoint=_ENDPOINT,
                completion_window="24h",  # the only one that OpenAI offers
                metadata={_METADATA_FIELD: token},
            )
            return str(batch.id)

    async def created_since(self, at: float, token: str, requests: int) -> list[str]:
        """See Batches."""
        found = []
        with self._chat.failures():
            async for batch in self._client.batches.list(limit=100):  # newest first
                if batch.created_at < at - CLOCKS_APART:
                    break
                if (batch.metadata or {}).get(_METADATA_FIELD) == token:
                    found.append(str(batch.id))
        return found

    async def state(self, batch: str) -> BatchState:
        """See Batches; a batch that failed as a whole raises."""
        with self._chat.failures():
            found = await self._client.batches.retrieve(batch)
            if found.status == "failed":
                errors = (found.errors and found.errors.data) or []
                raise failure(400, {"code": errors[0].code if errors else None})
            counts = found.request_counts
            answered = (counts.completed + counts.failed) if counts else 0
            return BatchState(found.status in _ENDED, counts.total if counts else 0, answered)

    async def results(self, batch: str) -> AsyncIterator[BatchResult]:
        """See Batches."""
        with self._chat.failures():
            found = await self._client.batches.retrieve(batch)
            for file in filter(None, (found.output_file_id, found.error_file_id)):
                async with self._client.files.with_streaming_response.content(file) as content:
                    async for line in content.iter_lines():
                        if line.strip() and (result := self._result(line.encode())):
                            yield result

    def _result(self, line: bytes) -> BatchResult | None:
        """The result in a line of a file; None for a line without the name of a request."""
        try:
            entry = record(load(line))
        except ValueError:
            return None
        name, response = text(entry.get("custom_id")), record(entry.get("response"))
        if not name:
            return None
        if not response:  # the request was never made: the batch expired after a day, or was cancelled
            return BatchResult(name, failure=FailureKind.TIMEOUT)
        status = count(response.get("status_code")) or 0
        if status != _OK:
            return BatchResult(name, failure=failure(status, response.get("body")).kind)
        try:
            return BatchResult(name, tuple(self._chat.events(response.get("body"), "")))
        except ProviderError as error:
            return BatchResult(name, failure=error.kind)
