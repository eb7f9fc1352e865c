"""Reads the input file of an OpenAI batch, one request a line, and finds its mistakes."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

from service.simulator.wire import request_checks

ENDPOINT = "/v1/chat/completions"
_MAX_REQUESTS = 50_000  # OpenAI's limit; beyond, the batch fails
_MAX_ERRORS = 100  # mistakes that are reported of one file; further ones are left out


class BatchInput:
    """Reads the file line by line, once to check it and once to run it, rather than hold it as objects.

    Args:
        content: bytes of the file; None when there is no such file, or it has another purpose.

    Attributes:
        total: requests in the file; 0 until it is checked.
    """

    def __init__(self, content: bytes | None) -> None:
        self._content = content
        self._seen: set[str] = set()
        self._model: str | None = None
        self.total = 0

    def check(self) -> list[dict[str, Any]]:
        """Finds the mistakes in the file, as entries of a batch's ``errors.data``."""
        if self._content is None:
            return [
                _error("invalid_input_file", "The input file was not found, or its purpose is not batch.")
            ]
        errors: list[dict[str, Any]] = []
        for number, line in self._lines():
            self.total += 1
            error = self._check_line(line)
            if error is not None and len(errors) < _MAX_ERRORS:
                errors.append({**error, "line": number})
        # The ids are compared; a large file has megabytes of them.
        self._seen.clear()
        if self.total > _MAX_REQUESTS:
            return [_error("too_many_tasks", f"The input file holds more than {_MAX_REQUESTS} requests.")]
        if not self.total:
            return [_error("empty_file", "The input file is empty: a batch has at least one request.")]
        return errors

    def requests(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Iterates over custom id and body of the requests, in a file without mistakes."""
        for _, line in self._lines():
            entry = request_checks.json_object(line) or {}
            yield entry["custom_id"], entry["body"]

    def _lines(self) -> Iterator[tuple[int, bytes]]:
        lines = enumerate(
            io.BytesIO(self._content or b""), 1
        )  # BytesIO shares the bytes until one is written
        return ((number, line) for number, line in lines if line.strip())

    def _check_line(self, line: bytes) -> dict[str, Any] | None:
        entry = request_checks.json_object(line)
        if entry is None:
            return _error("invalid_json_line", "This line is not parseable as valid JSON.")
        for name, kind in (("custom_id", str), ("method", str), ("url", str), ("body", dict)):
            if name not in entry:
                return _error("missing_required_parameter", f"Missing required parameter: '{name}'.", name)
            if not isinstance(entry[name], kind):
                return _error("invalid_type", f"Invalid type for '{name}'.", name)
        if entry["custom_id"] in self._seen:
            return _error(
                "duplicate_custom_id",
                "The custom_id for this request is a duplicate of another request. The custom_id parameter "
                "must be unique for each request in a batch.",
                "custom_id",
            )
        self._seen.add(entry["custom_id"])
        return self._check_target(entry)

    def _check_target(self, entry: dict[str, Any]) -> dict[str, Any] | None:
        if entry["method"] != "POST":
            return _error("invalid_method", "The method of this request is not POST.", "method")
        # A batch has one endpoint, which its creation names.
        if entry["url"] != ENDPOINT:
            return _error("url_mismatch", "The url of this request does not match the endpoint.", "url")
        model = entry["body"].get("model")
        # A wrong type is the error of its request alone, when it is made.
        if isinstance(model, str):
            self._model = self._model or model
            if model != self._model:
                return _error(
                    "model_mismatch",
                    "A batch holds requests for one model; this is another one.",
                    "body.model",
                )
        return None


def _error(code: str, message: str, param: str | None = None) -> dict[str, Any]:
    return {"code": code, "message": message, "param": param, "line": None}
