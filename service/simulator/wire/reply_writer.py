"""Puts a reply into bytes: as the vendor does, or oddly, as servers that only resemble it do.

What is told is the same: the model's answer. How it is told is what a fault of `TELLINGS` changes: the reason
why it ended, the shape of its content, its usage, or the bytes around it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from service.simulator.contracts import Content, Reply, Wire
from service.simulator.faults import TELLINGS, USAGES

_BOM = b"\xef\xbb\xbf"
_LOADING = "the model is loading"


class ReplyWriter:
    """Writes one reply as its wire does.

    Attributes:
        reports_usage: the client learns what the vendor bills.
        at_once: one JSON object, though a stream was asked for.
    """

    reports_usage = True
    at_once = False

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def body(self, reply: Reply) -> bytes:
        """A plain answer."""
        return json.dumps(self._wire.replies.message(reply)).encode()

    def opening(self, reply: Reply) -> bytes:
        """Server-sent events before the first token."""
        return self._wire.replies.opening(reply)

    def piece(self, reply: Reply, token: str) -> bytes:
        """The server-sent event of one token."""
        return self._wire.replies.piece(reply, token)

    def closing(self, reply: Reply) -> bytes:
        """Server-sent events after the last token."""
        return self._wire.replies.closing(reply)

    def error_event(self, reply: Reply) -> bytes:
        """An error in the middle of a stream that began with 200."""
        return self._wire.errors.event()

    def error_body(self, reply: Reply) -> bytes:
        """An error in the place of a plain answer, with a status of 200."""
        errors = self._wire.errors
        return json.dumps(errors.rejection(errors.fault("500", None), reply.request_id)).encode()


def reply_writer(wire: Wire, fault: str | None) -> ReplyWriter:
    """The writer of a reply that meets a fault."""
    return LookalikeWriter(wire, fault) if fault in TELLINGS else ReplyWriter(wire)


class LookalikeWriter(ReplyWriter):
    """Writes one reply as a fault wants it."""

    def __init__(self, wire: Wire, fault: str) -> None:
        super().__init__(wire)
        self._fault = fault
        self._rewrite = wire.lookalikes.get(fault, _unchanged)
        self.reports_usage = fault not in (*USAGES, "no_finish_half", "error_text")
        self.at_once = fault == "object"

    def body(self, reply: Reply) -> bytes:
        """See ReplyWriter."""
        (content,) = self._rewrite(self._wire.replies.message(reply))
        return {"bom": _BOM, "keepalive": b"\n  \n"}.get(self._fault, b"") + json.dumps(content).encode()

    def opening(self, reply: Reply) -> bytes:
        """See ReplyWriter."""
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
        told = b"".join(self._event(each) for each in written.split(b"\n\n") if each)
        return told.replace(b"\n", b"\r") if self._fault == "bom" else told  # no JSON of ours holds either

    def _event(self, written: bytes) -> bytes:
        name, _, data = written.partition(b"data: ")
        if not data.startswith(b"{"):
            return written + b"\n\n"
        events = []
        for content in self._rewrite(json.loads(data)):
            kind = f"event: {content['type']}\n".encode() if name else b""
            events.append(kind + b"data: " + json.dumps(content).encode() + b"\n\n")
        return b"".join(events)


def _unchanged(content: Content) -> Iterator[Content]:
    yield content
