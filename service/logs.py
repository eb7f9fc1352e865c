"""Writes the log: one line per event, as text for people or JSON for machines."""

from __future__ import annotations

import json
import logging
import sys
import time
from contextvars import ContextVar
from typing import Any, Literal

FIELDS = "fields"
"""Key of the fields that one line adds: ``logger.info("…", extra={FIELDS: {...}})``."""

REQUEST_ID: ContextVar[str] = ContextVar("request_id", default="")
"""Id of the request that is answered, or that began this background work; empty outside of requests."""


class JsonFormatter(logging.Formatter):
    """Formats a record as one JSON object, fields included."""

    def format(self, record: logging.LogRecord) -> str:
        """Formats one record."""
        line: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line.update(_fields(record))
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class TextFormatter(logging.Formatter):
    """Formats a record as level, message and fields as ``key=value``."""

    def format(self, record: logging.LogRecord) -> str:
        """Formats one record; control characters of clients are escaped, so that one event stays one line."""
        pairs = "".join(f" {key}={value}" for key, value in _fields(record).items())
        text = f"{record.levelname:<7} {record.getMessage()}{pairs}"
        # uvicorn logs tracebacks as messages, whose line breaks stay.
        if not text.isprintable() and not record.name.startswith("uvicorn"):
            text = "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
        return text + ("\n" + self.formatException(record.exc_info) if record.exc_info else "")


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    """Returns the fields that the line adds, after the request's id where there is one."""
    fields: dict[str, Any] = getattr(record, FIELDS, {})
    request_id = REQUEST_ID.get()
    return {"request_id": request_id, **fields} if request_id else fields


def configure(level: str, form: Literal["json", "text"]) -> None:
    """Sends the service's and uvicorn's log to standard error, from ``level`` on."""
    # No line shows its source, thread or process: not looking them up saves time (Python's logging HOWTO,
    # Optimization).
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    for name in ("service", "uvicorn"):
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler]
        logger.setLevel(level.upper())
        logger.propagate = False
