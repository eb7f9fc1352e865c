"""Server-sent events in the shapes that the two vendors send them.

The format is the WHATWG HTML standard's (section "Server-sent events"): lines of ``field: value``, and an
empty line after each event.
"""

from __future__ import annotations

import json
from typing import Any


def data_event(data: dict[str, Any]) -> bytes:
    """An event with data alone, as OpenAI sends it."""
    return b"data: " + json.dumps(data, separators=(",", ":")).encode() + b"\n\n"


def named_event(kind: str, **fields: Any) -> bytes:
    """An event with a name, which its data repeats as ``type``, as Anthropic sends it."""
    data = json.dumps({"type": kind, **fields}, separators=(",", ":"))
    return f"event: {kind}\ndata: {data}\n\n".encode()
