"""Serves OpenAI's ``/v1/batches``, which turn a file of requests into one of answers and one of errors."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.routing import Route

from service.simulator.batches.batch import COMPLETION_WINDOW, Batch, BatchStore, read_limit, shuffled
from service.simulator.batches.calls import BatchCalls, BatchResult
from service.simulator.batches.openai_files import INPUT, OUTPUT, File, OpenAIFiles
from service.simulator.batches.openai_input import ENDPOINT, BatchInput
from service.simulator.batches.routes import BatchRoutes
from service.simulator.contracts import RejectedError
from service.simulator.wire import request_checks
from service.simulator.wire.openai.errors import refused
from service.simulator.wire.request_body import read_body

_MAX_PAGE = 100  # batches on a page; a larger limit is refused
# OpenAI's API reference, "metadata".
_MAX_METADATA, _MAX_KEY, _MAX_VALUE = 16, 64, 512  # pairs, characters, characters
# Outcome: error code and message of a request that was not executed.
_NOT_MADE = {
    "canceled": ("batch_cancelled", "This request was not executed: the batch was cancelled before."),
    "expired": (
        "batch_expired",
        "This request could not be executed before the completion window expired.",
    ),
}


@dataclass(kw_only=True)
class OpenAIBatch(Batch):
    """A batch with the fields of OpenAI's batch object.

    Attributes:
        input_file_id: id of the file of requests.
        metadata: pairs that the client gave; None without any.
        errors: mistakes of the input, any of which fails the whole batch.
        in_progress_at: time at which the input was checked, in seconds since the epoch; None until then.
        finalizing_at: time at which the last call was made, in seconds since the epoch; None until then.
        output_file_id: id of the file of answers; None without any.
        error_file_id: id of the file of errors; None without any.
    """

    input_file_id: str
    metadata: Mapping[str, str] | None
    errors: list[dict[str, Any]] = field(default_factory=list)
    in_progress_at: float | None = None
    finalizing_at: float | None = None
    output_file_id: str | None = None
    error_file_id: str | None = None

    @property
    def status(self) -> str:
        """Status as OpenAI names it; the batch has expired when one of its requests has."""
        if self.ended_at is not None:
            if self.errors:
                return "failed"
            if self.cancelling_at is not None:
                return "cancelled"
            return "expired" if self.counts["expired"] else "completed"
        if self.cancelling_at is not None:
            return "cancelling"
        if self.finalizing_at is not None:
            return "finalizing"
        return "validating" if self.in_progress_at is None else "in_progress"

    def description(self) -> dict[str, Any]:
        """Describes the batch as OpenAI's batch object."""
        # Each final status has a moment of its own; the others are null.
        ends = ("failed", "completed", "expired", "cancelled")
        counts = {
            "total": self.total,
            "completed": self.counts["succeeded"],
            # Expired requests count as failed.
            "failed": self.counts["errored"] + self.counts["expired"],
        }
        return {
            "id": self.id,
            "object": "batch",
            "endpoint": ENDPOINT,
            "errors": {"object": "list", "data": self.errors} if self.errors else None,
            "input_file_id": self.input_file_id,
            "completion_window": "24h",
            "status": self.status,
            "output_file_id": self.output_file_id,
            "error_file_id": self.error_file_id,
            "created_at": int(self.created_at),
            "expires_at": int(self.created_at) + COMPLETION_WINDOW,
            "in_progress_at": _whole(self.in_progress_at),
            "finalizing_at": _whole(self.finalizing_at),
            "cancelling_at": _whole(self.cancelling_at),
            **{f"{end}_at": _whole(self.ended_at) if self.status == end else None for end in ends},
            "request_counts": counts,
            "metadata": self.metadata,
        }


class OpenAIBatches:
    """Keeps all batches of the OpenAI wire, and serves the calls about them.

    Args:
        files: files of requests and of answers.
        calls: maker of the calls of a batch.
        seconds: seconds from a batch's creation to its end.
    """

    def __init__(self, files: OpenAIFiles, calls: BatchCalls, seconds: float) -> None:
        self._files = files
        self._calls = calls
        self._seconds = seconds
        self._batches: BatchStore[OpenAIBatch] = BatchStore()

    def routes(self, make: BatchRoutes) -> list[Route]:
        """Lists the routes of these calls."""
        one = "/v1/batches/{id}"
        return [
            make.route("/v1/batches", self._create, ["POST"]),
            make.route("/v1/batches", self._list),
            make.route(one, self._describe),
            make.route(f"{one}/cancel", self._cancel, ["POST"]),
        ]

    async def _create(self, request: Request) -> dict[str, Any]:
        fields = request_checks.json_object(await read_body(request))
        if fields is None:
            raise refused("We could not parse the JSON body of your request.")
        metadata = _check_parameters(fields)
        batch = OpenAIBatch(
            id=f"batch_{uuid.uuid4().hex}",
            seconds=self._seconds,
            input_file_id=fields["input_file_id"],
            metadata=metadata,
        )
        self._batches.begin(batch, self._run(batch, self._files.get(batch.input_file_id)))
        return batch.description()

    async def _list(self, request: Request) -> dict[str, Any]:
        limit = read_limit(request.query_params.get("limit"), _MAX_PAGE)
        if limit is None:
            raise refused(f"Invalid 'limit': expected an integer from 1 to {_MAX_PAGE}.", "limit")
        try:
            batches, more = self._batches.page(limit, after=request.query_params.get("after"))
        except KeyError as unknown:
            raise _not_found(str(unknown.args[0])) from None
        ends = {"first_id": batches[0].id, "last_id": batches[-1].id} if batches else {}
        return {
            "object": "list",
            "data": [batch.description() for batch in batches],
            "first_id": None,
            "last_id": None,
            **ends,
            "has_more": more,
        }

    async def _describe(self, request: Request) -> dict[str, Any]:
        return self._found(request).description()

    async def _cancel(self, request: Request) -> dict[str, Any]:
        batch = self._found(request)
        if batch.ended_at is not None:
            raise RejectedError(
                409, "invalid_request_error", f"Cannot cancel a batch with status '{batch.status}'."
            )
        batch.cancel()
        return batch.description()

    def _found(self, request: Request) -> OpenAIBatch:
        name = request.path_params["id"]
        batch = self._batches.get(name)
        if batch is None:
            raise _not_found(name)
        return batch

    async def _run(self, batch: OpenAIBatch, file: File | None) -> None:
        # A file of answers is no input, though it is a file.
        read = BatchInput(file.content if file and file.purpose == INPUT else None)
        # A file may hold 200 MB, and a check of it seconds: in a thread.
        batch.errors = await asyncio.to_thread(read.check)
        if batch.errors:
            batch.ended_at = time.time()
            return
        batch.total = read.total
        batch.in_progress_at = time.time()
        answers: list[bytes] = []
        errors: list[bytes] = []
        async for result in batch.results(read.requests(), self._calls):
            # OpenAI writes failures into a file of their own.
            (answers if result.outcome == "succeeded" else errors).append(_line(result))
        batch.finalizing_at = time.time()
        await batch.until(1.0)
        if answers:
            batch.output_file_id = self._keep(f"{batch.id}_output.jsonl", answers)
        if errors:
            batch.error_file_id = self._keep(f"{batch.id}_error.jsonl", errors)
        batch.ended_at = time.time()

    def _keep(self, name: str, lines: list[bytes]) -> str:
        return self._files.keep(File(name, OUTPUT, shuffled(lines))).id


def _line(result: BatchResult) -> bytes:
    response, error = None, None
    if result.outcome in _NOT_MADE:
        code, message = _NOT_MADE[result.outcome]
        error = {"code": code, "message": message}
    else:
        response = {"status_code": result.status, "request_id": result.request_id, "body": result.body}
    # One line of the output file, as in OpenAI's guide "Batch API".
    line = {
        "id": f"batch_{result.request_id}",
        "custom_id": result.custom_id,
        "response": response,
        "error": error,
    }
    return json.dumps(line).encode() + b"\n"


def _check_parameters(fields: dict[str, Any]) -> dict[str, str] | None:
    """Checks the parameters of a new batch, and returns its metadata."""
    for name in ("input_file_id", "endpoint", "completion_window"):
        if name not in fields:
            raise refused(f"Missing required parameter: '{name}'.", name, "missing_required_parameter")
        if not isinstance(fields[name], str):
            raise refused(f"Invalid type for '{name}': expected a string.", name, "invalid_type")
    for name, only in (("endpoint", ENDPOINT), ("completion_window", "24h")):
        if fields[name] != only:
            raise refused(
                f"Invalid value: '{fields[name][:100]}'. Supported values are: '{only}'.",
                name,
                "invalid_value",
            )
    metadata = fields.get("metadata")
    if metadata is None:
        return None
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise refused("Invalid type for 'metadata': expected an object of strings.", "metadata")
    if len(metadata) > _MAX_METADATA or any(
        len(key) > _MAX_KEY or len(value) > _MAX_VALUE for key, value in metadata.items()
    ):
        raise refused(
            f"Invalid 'metadata': at most {_MAX_METADATA} pairs, with keys of {_MAX_KEY} and values of "
            f"{_MAX_VALUE} characters.",
            "metadata",
        )
    return metadata


def _whole(moment: float | None) -> int | None:
    return None if moment is None else int(moment)


def _not_found(batch: str) -> RejectedError:
    return RejectedError(404, "invalid_request_error", f"No batch found with id '{batch[:100]}'.")
