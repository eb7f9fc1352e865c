"""Serves Anthropic's ``/v1/messages/batches``, which turn a body of requests into a file of results."""

from __future__ import annotations

import json
import re
import time
import uuid
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.simulator.batches.batch import COMPLETION_WINDOW, Batch, BatchStore, read_limit, shuffled
from service.simulator.batches.calls import BatchCalls, BatchResult
from service.simulator.batches.routes import BatchRoutes
from service.simulator.contracts import SIMULATOR_HEADER, RejectedError
from service.simulator.wire import request_checks
from service.simulator.wire.anthropic.errors import refused
from service.simulator.wire.request_body import MAX_BATCH_BODY, read_body

_PATH = "/v1/messages/batches"
_MAX_REQUESTS = 100_000  # Anthropic's limit; beyond, 400
_MAX_PAGE = 1_000  # batches on a page; a larger limit is refused
_CUSTOM_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_OUTCOMES = ("succeeded", "errored", "canceled", "expired")


@dataclass(kw_only=True)
class AnthropicBatch(Batch):
    """A batch with the fields of Anthropic's message batch object.

    Attributes:
        content: results, one JSON object a line; empty until the batch has ended.
    """

    content: bytes = b""

    def description(self, base_url: str) -> dict[str, Any]:
        """Describes the batch as Anthropic's message batch object.

        All requests count as processing until the whole batch has ended (Anthropic's API reference).

        Args:
            base_url: URL by which the client reached the simulator.
        """
        ended = self.ended_at is not None
        counts = {outcome: self.counts[outcome] if ended else 0 for outcome in _OUTCOMES}
        status = "ended" if ended else "in_progress" if self.cancelling_at is None else "canceling"
        return {
            "id": self.id,
            "type": "message_batch",
            "processing_status": status,
            "request_counts": {"processing": 0 if ended else self.total, **counts},
            "created_at": _timestamp(self.created_at),
            "expires_at": _timestamp(self.created_at + COMPLETION_WINDOW),
            "ended_at": _timestamp(self.ended_at),
            "cancel_initiated_at": _timestamp(self.cancelling_at),
            "archived_at": None,
            "results_url": f"{base_url.rstrip('/')}{_PATH}/{self.id}/results" if ended else None,
        }


class AnthropicBatches:
    """Keeps all batches of the Anthropic wire, and serves the calls about them.

    Args:
        calls: maker of the calls of a batch.
        seconds: seconds from a batch's creation to its end.
    """

    def __init__(self, calls: BatchCalls, seconds: float) -> None:
        self._calls = calls
        self._seconds = seconds
        self._batches: BatchStore[AnthropicBatch] = BatchStore()

    def routes(self, make: BatchRoutes) -> list[Route]:
        """Lists the routes of these calls."""
        one = f"{_PATH}/{{id}}"
        return [
            make.route(_PATH, self._create, ["POST"]),
            make.route(_PATH, self._list),
            make.route(one, self._describe),
            make.route(f"{one}/results", self._results),
            make.route(f"{one}/cancel", self._cancel, ["POST"]),
        ]

    async def _create(self, request: Request) -> dict[str, Any]:
        fields = request_checks.json_object(await read_body(request, MAX_BATCH_BODY))
        if fields is None:
            raise refused("The request body is not valid JSON: expected an object")
        requests = _read_requests(fields.get("requests"))
        batch = AnthropicBatch(id=f"msgbatch_{uuid.uuid4().hex}", seconds=self._seconds, total=len(requests))
        self._batches.begin(batch, self._run(batch, requests))
        return batch.description(str(request.base_url))

    async def _list(self, request: Request) -> dict[str, Any]:
        fields = request.query_params
        limit, after, before = (
            read_limit(fields.get("limit"), _MAX_PAGE),
            fields.get("after_id"),
            fields.get("before_id"),
        )
        if limit is None:
            raise refused(f"limit: Input should be an integer from 1 to {_MAX_PAGE}")
        # Anthropic pages in both directions, one at a time.
        if after is not None and before is not None:
            raise refused("after_id and before_id cannot be used together")
        try:
            batches, more = self._batches.page(limit, after=after, before=before)
        except KeyError as unknown:
            raise _not_found(str(unknown.args[0])) from None
        return {
            "data": [batch.description(str(request.base_url)) for batch in batches],
            "has_more": more,
            "first_id": batches[0].id if batches else None,
            "last_id": batches[-1].id if batches else None,
        }

    async def _describe(self, request: Request) -> dict[str, Any]:
        return self._found(request).description(str(request.base_url))

    async def _results(self, request: Request) -> Response:
        batch = self._found(request)
        if batch.ended_at is None:
            raise RejectedError(404, "not_found_error", f"Batch {batch.id} has no results yet")
        return Response(batch.content, media_type="application/x-jsonl", headers=SIMULATOR_HEADER)

    async def _cancel(self, request: Request) -> dict[str, Any]:
        batch = self._found(request)
        if batch.ended_at is not None:
            raise refused(f"Batch {batch.id} has ended and cannot be canceled")
        batch.cancel()
        return batch.description(str(request.base_url))

    def _found(self, request: Request) -> AnthropicBatch:
        name = request.path_params["id"]
        batch = self._batches.get(name)
        if batch is None:
            raise _not_found(name)
        return batch

    async def _run(self, batch: AnthropicBatch, requests: deque[tuple[str, dict[str, Any]]]) -> None:
        # Results can be read only when the whole batch has ended, so they are kept until then.
        lines = [_line(result) async for result in batch.results(_taken(requests), self._calls)]
        await batch.until(1.0)
        batch.content = shuffled(lines)
        batch.ended_at = time.time()


def _read_requests(requests: Any) -> deque[tuple[str, dict[str, Any]]]:
    if not isinstance(requests, list):
        raise refused("requests: Input should be a valid list")
    if not 1 <= len(requests) <= _MAX_REQUESTS:
        raise refused(f"requests: List should have from 1 to {_MAX_REQUESTS} items")
    seen: set[str] = set()
    read: deque[tuple[str, dict[str, Any]]] = deque()
    for position, entry in enumerate(requests):
        match entry:
            case {"custom_id": str(custom_id), "params": dict(params)}:
                if not _CUSTOM_ID.fullmatch(custom_id):
                    raise refused(
                        f"requests.{position}.custom_id: "
                        "String should match pattern '^[a-zA-Z0-9_-]{1,64}$'"
                    )
                if custom_id in seen:
                    raise refused(f"requests.{position}.custom_id: {custom_id} is not unique in the batch")
                seen.add(custom_id)
                read.append((custom_id, params))
            case _:
                raise refused(f"requests.{position}: Input should have a custom_id and an object params")
    return read


def _taken(requests: deque[tuple[str, dict[str, Any]]]) -> Iterator[tuple[str, dict[str, Any]]]:
    while requests:
        yield requests.popleft()  # frees the pictures of each request once its call is made


def _line(result: BatchResult) -> bytes:
    outcome: dict[str, Any] = {"type": result.outcome}
    if result.body is not None:
        outcome["message" if result.outcome == "succeeded" else "error"] = result.body
    return json.dumps({"custom_id": result.custom_id, "result": outcome}).encode() + b"\n"


def _timestamp(moment: float | None) -> str | None:
    return None if moment is None else datetime.fromtimestamp(moment, UTC).isoformat()


def _not_found(batch: str) -> RejectedError:
    return RejectedError(404, "not_found_error", f"Batch {batch[:100]} not found")
