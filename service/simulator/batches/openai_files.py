"""Serves OpenAI's ``/v1/files``, as far as batches need it."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass, field
from typing import Any

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.simulator.batches.routes import BatchRoutes
from service.simulator.contracts import SIMULATOR_HEADER, RejectedError
from service.simulator.wire.openai.errors import refused
from service.simulator.wire.request_body import MAX_BATCH_BODY, limit_body

INPUT, OUTPUT = "batch", "batch_output"
_MAX_BYTES = 200 * 2**20  # of an input file, OpenAI's limit; beyond, 413
_KEPT = 30 * 86_400  # seconds until a file expires, as its description says; the simulator deletes none
_MAX_FIELDS = 10  # of an upload's form; beyond, 400


@dataclass(frozen=True, slots=True)
class File:
    """A file.

    Attributes:
        name: name that the client gave, ending in ``.jsonl``.
        purpose: ``batch`` for requests, ``batch_output`` for answers and errors.
        content: bytes of the file.
        id: id of the file, ``file-`` and 32 hexadecimal digits.
        created_at: time of its creation in seconds since the epoch.
    """

    name: str
    purpose: str
    content: bytes
    id: str = field(default_factory=lambda: f"file-{uuid.uuid4().hex}")
    created_at: int = field(default_factory=lambda: int(time.time()))

    def description(self) -> dict[str, Any]:
        """Describes the file as OpenAI's file object, which has no content."""
        return {
            "id": self.id,
            "object": "file",
            "bytes": len(self.content),
            "created_at": self.created_at,
            "expires_at": self.created_at + _KEPT,
            "filename": self.name,
            "purpose": self.purpose,
            "status": "processed",
            "status_details": None,
        }


class OpenAIFiles:
    """Keeps all files in memory, and serves the calls about them."""

    def __init__(self) -> None:
        self._kept: dict[str, File] = {}

    def keep(self, file: File) -> File:
        """Stores a file until it is deleted."""
        self._kept[file.id] = file
        return file

    def get(self, file: str) -> File | None:
        """Finds a file by its id; None when there is none."""
        return self._kept.get(file)

    def routes(self, make: BatchRoutes) -> list[Route]:
        """Lists the routes of these calls."""
        one = "/v1/files/{id}"
        return [
            make.route("/v1/files", self._upload, ["POST"]),
            make.route(one, self._describe),
            make.route(f"{one}/content", self._read),
            make.route(one, self._delete, ["DELETE"]),
        ]

    async def _upload(self, request: Request) -> dict[str, Any]:
        # Without this header the parser would find an empty form.
        if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
            raise refused("The request must be of content type multipart/form-data.")
        # The parser spools large parts to disk, so that memory holds one copy, and that at the end.
        bounded = Request(request.scope, limit_body(request.receive, MAX_BATCH_BODY))
        try:
            async with bounded.form(max_files=1, max_fields=_MAX_FIELDS) as form:
                purpose, upload = form.get("purpose"), form.get("file")
                if purpose != INPUT:
                    raise refused(f"{str(purpose)[:100]!r} is not one of ['batch'] - 'purpose'", "purpose")
                if not isinstance(upload, UploadFile):
                    raise refused("'file' is a required property", "file")
                # Checked before it is read into memory.
                name = _checked_name(upload)
                content = await upload.read()
        # The last two come from a charset that Python knows and that is no encoding of text, such as base64.
        except (MultiPartException, HTTPException, UnicodeError, LookupError) as error:
            raise refused(f"Could not parse multipart form: {getattr(error, 'detail', error)}") from error
        return self.keep(File(name, INPUT, content)).description()

    async def _describe(self, request: Request) -> dict[str, Any]:
        return self._found(request).description()

    async def _read(self, request: Request) -> Response:
        content = self._found(request).content
        return Response(content, media_type="application/octet-stream", headers=SIMULATOR_HEADER)

    async def _delete(self, request: Request) -> dict[str, Any]:
        file = self._found(request)
        del self._kept[file.id]
        return {"id": file.id, "object": "file", "deleted": True}

    def _found(self, request: Request) -> File:
        name = request.path_params["id"]
        file = self._kept.get(name)
        if file is None:
            raise RejectedError(404, "invalid_request_error", f"No such File object: {name}", param="id")
        return file


def _checked_name(upload: UploadFile) -> str:
    name = upload.filename or ""
    if not name.endswith(".jsonl"):
        raise refused("Invalid file format for Batch API. Must be .jsonl")
    if not upload.size:
        raise refused("File is empty.", "file")
    if upload.size > _MAX_BYTES:
        raise RejectedError(
            413,
            "invalid_request_error",
            f"File is too large: {upload.size} bytes are more than {_MAX_BYTES}.",
            param="file",
        )
    return name
