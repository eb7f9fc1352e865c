"""One line per event, as text for people or JSON for machines."""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Any, Literal

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}


class JsonFormatter(logging.Formatter):
    """One JSON object a line; what is passed as ``extra`` becomes a field."""

    def format(self, record: logging.LogRecord) -> str:
        """Format one record."""
        line: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line.update(_extra(record))
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class TextFormatter(logging.Formatter):
    """Level, message and ``extra`` as ``key=value``."""

    def format(self, record: logging.LogRecord) -> str:
        """Format one record; control characters of clients are escaped, so that one event stays one line."""
        pairs = "".join(f" {key}={value}" for key, value in _extra(record).items())
        text = f"{record.levelname:<7} {record.getMessage()}{pairs}"
        if not record.name.startswith("uvicorn"):  # whose messages may be tracebacks
            text = "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
        return text + ("\n" + self.formatException(record.exc_info) if record.exc_info else "")


def configure(level: str, form: Literal["json", "text"]) -> None:
    """Send the service's and uvicorn's log to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    for name in ("service", "uvicorn"):
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler]
        logger.setLevel(level.upper())
        logger.propagate = False


def _extra(record: logging.LogRecord) -> dict[str, Any]:
    return {key: value for key, value in vars(record).items() if key not in _STANDARD}
