"""Writes a reply as bytes: as the vendor does, or as servers do that only resemble it.

The answer is the same. A fault of `LOOKALIKES` changes the finish reason, the shape of the content, the
usage, or the bytes around it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from service.simulator.contracts import Content, Reply, Wire
from service.simulator.faults import LOOKALIKES, USAGES

# Byte order mark of UTF-8, which a client of an event stream has to skip (WHATWG HTML).
_BOM = b"\xef\xbb\xbf"
_LOADING = "the model is loading"


class ReplyWriter:
    """Writes a reply as the vendor does.

    Args:
        wire: format of the vendor.

    Attributes:
        reports_usage: whether the client receives the usage that the vendor bills.
        at_once: whether the answer is one JSON object even where a stream was asked for.
    """

    reports_usage = True
    at_once = False

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def body(self, reply: Reply) -> bytes:
        """Writes a plain answer."""
        return json.dumps(self._wire.replies.message(reply)).encode()

    def opening(self, reply: Reply) -> bytes:
        """Writes the server-sent events before the first token."""
        return self._wire.replies.opening(reply)

    def piece(self, reply: Reply, token: str) -> bytes:
        """Writes the server-sent event of one token."""
        return self._wire.replies.piece(reply, token)

    def closing(self, reply: Reply) -> bytes:
        """Writes the server-sent events after the last token."""
        return self._wire.replies.closing(reply)

    def error_event(self, reply: Reply) -> bytes:
        """Writes an error in the middle of a stream that began with 200."""
        return self._wire.errors.event()

    def error_body(self, reply: Reply) -> bytes:
        """Writes an error instead of a plain answer, with a status of 200."""
        errors = self._wire.errors
        return json.dumps(errors.rejection(errors.fault("500", None), reply.request_id)).encode()


def reply_writer(wire: Wire, fault: str | None) -> ReplyWriter:
    """Chooses the writer for a reply whose call met a fault; None for a healthy one."""
    return LookalikeWriter(wire, fault) if fault in LOOKALIKES else ReplyWriter(wire)


class LookalikeWriter(ReplyWriter):
    """Writes a reply as a server does that only resembles the vendor.

    Args:
        wire: format of the vendor.
        fault: one of `LOOKALIKES`.
    """

    def __init__(self, wire: Wire, fault: str) -> None:
        super().__init__(wire)
        self._fault = fault
        self._rewrite = wire.lookalikes.get(fault, _unchanged)
        self.reports_usage = fault not in (*USAGES, "no_finish_half", "error_text")
        self.at_once = fault == "object"

    def body(self, reply: Reply) -> bytes:
        """See ReplyWriter."""
        # A plain answer is rewritten into exactly one object.
        (content,) = self._rewrite(self._wire.replies.message(reply))
        return {"bom": _BOM, "keepalive": b"\n  \n"}.get(self._fault, b"") + json.dumps(content).encode()

    def opening(self, reply: Reply) -> bytes:
        """See ReplyWriter."""
        # A line that begins with a colon is a comment (WHATWG HTML); the same as data is no JSON.
        first = {"bom": _BOM, "keepalive": b": waiting\n\ndata: : PROCESSING\n\n"}.get(self._fault, b"")
        return first + self._events(self._wire.replies.opening(reply))

    def piece(self, reply: Reply, token: str) -> bytes:
        """See ReplyWriter."""
        return self._events(self._wire.replies.piece(reply, token))

    def closing(self, reply: Reply) -> bytes:
        """See ReplyWriter."""
        first = b"data: : STILL PROCESSING\n\n" if self._fault == "keepalive" else b""
        return first + self._events(self._wire.replies.closing(reply))

    def error_event(self, reply: Reply) -> bytes:
        """See ReplyWriter."""
        name = b"event: error\n" if self._wire.name == "anthropic" else b""
        return name + b"data: " + self.error_body(reply) + b"\n\n"

    def error_body(self, reply: Reply) -> bytes:
        """See ReplyWriter."""
        kind = {"type": "error"} if self._wire.name == "anthropic" else {}
        return json.dumps({**kind, "error": _LOADING}).encode()

    def _events(self, written: bytes) -> bytes:
        rewritten = b"".join(self._event(each) for each in written.split(b"\n\n") if each)
        # CR alone may end a line (WHATWG HTML); JSON escapes both CR and LF.
        return rewritten.replace(b"\n", b"\r") if self._fault == "bom" else rewritten

    def _event(self, written: bytes) -> bytes:
        name, _, data = written.partition(b"data: ")
        # "[DONE]" is no JSON and stays as it is.
        if not data.startswith(b"{"):
            return written + b"\n\n"
        events = []
        for content in self._rewrite(json.loads(data)):
            kind = f"event: {content['type']}\n".encode() if name else b""
            events.append(kind + b"data: " + json.dumps(content).encode() + b"\n\n")
        return b"".join(events)


def _unchanged(content: Content) -> Iterator[Content]:
    yield content
