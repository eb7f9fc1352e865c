"""Writes server-sent events as the two vendors do.

The format is the WHATWG HTML standard's (section "Server-sent events"): lines of ``field: value``, and an
empty line after each event.
"""

from __future__ import annotations

import json
from typing import Any


def data_event(data: dict[str, Any]) -> bytes:
    """Writes an event with data alone, as OpenAI does."""
    return b"data: " + json.dumps(data, separators=(",", ":")).encode() + b"\n\n"


def named_event(kind: str, **fields: Any) -> bytes:
    """Writes an event with a name, which its data repeats as ``type``, as Anthropic does."""
    data = json.dumps({"type": kind, **fields}, separators=(",", ":"))
    return f"event: {kind}\ndata: {data}\n\n".encode()
