"""Puts a reply into bytes: as the vendor does, or oddly, as servers that only resemble it do.

What is told is the same: the model's answer. How it is told is what a fault of `TELLINGS` changes: the reason
why it ended, the shape of its content, its usage, or the bytes around it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from service.simulator.contracts import Reply, Wire
from service.simulator.faults import TELLINGS, USAGES

Content = dict[str, Any]
"""The JSON of an event, or of a whole reply."""

_BOM = b"\xef\xbb\xbf"
_THOUGHT = "The first candidate, [A], looks fine."
_LOADING = "the model is loading"


class Telling:
    """Writes one reply as its wire does.

    Attributes:
        tells_usage: the client learns what the vendor bills.
        at_once: one JSON object, though a stream was asked for.
    """

    tells_usage = True
    at_once = False

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def body(self, reply: Reply) -> bytes:
        """A plain answer."""
        return json.dumps(self._wire.message(reply)).encode()

    def opening(self, reply: Reply) -> bytes:
        """Server-sent events before the first token."""
        return self._wire.opening(reply)

    def piece(self, reply: Reply, token: str) -> bytes:
        """The server-sent event of one token."""
        return self._wire.piece(reply, token)

    def closing(self, reply: Reply) -> bytes:
        """Server-sent events after the last token."""
        return self._wire.closing(reply)

    def error_event(self, reply: Reply) -> bytes:
        """An error in the middle of a stream that began with 200."""
        return self._wire.error_event(reply)

    def error_body(self, reply: Reply) -> bytes:
        """An error in the place of a plain answer, with a status of 200."""
        return json.dumps(self._wire.rejection(self._wire.fault("500", None), reply.request_id)).encode()


def telling(wire: Wire, fault: str | None) -> Telling:
    """How a reply that meets a fault is told."""
    return OddTelling(wire, fault) if fault in TELLINGS else Telling(wire)


class OddTelling(Telling):
    """Writes one reply as a fault wants it."""

    def __init__(self, wire: Wire, fault: str) -> None:
        super().__init__(wire)
        self._fault = fault
        self._rewrite = (_ANTHROPIC if wire.name == "anthropic" else _OPENAI).get(fault, _unchanged)
        self.tells_usage = fault not in (*USAGES, "no_finish_half", "error_text")
        self.at_once = fault == "object"

    def body(self, reply: Reply) -> bytes:
        """See Telling."""
        (content,) = self._rewrite(self._wire.message(reply))
        return {"bom": _BOM, "keepalive": b"\n  \n"}.get(self._fault, b"") + json.dumps(content).encode()

    def opening(self, reply: Reply) -> bytes:
        """See Telling."""
        first = {"bom": _BOM, "keepalive": b": waiting\n\ndata: : PROCESSING\n\n"}.get(self._fault, b"")
        return first + self._events(self._wire.opening(reply))

    def piece(self, reply: Reply, token: str) -> bytes:
        """See Telling."""
        return self._events(self._wire.piece(reply, token))

    def closing(self, reply: Reply) -> bytes:
        """See Telling."""
        first = b"data: : STILL PROCESSING\n\n" if self._fault == "keepalive" else b""
        return first + self._events(self._wire.closing(reply))

    def error_event(self, reply: Reply) -> bytes:
        """See Telling."""
        name = b"event: error\n" if self._wire.name == "anthropic" else b""
        return name + b"data: " + self.error_body(reply) + b"\n\n"

    def error_body(self, reply: Reply) -> bytes:
        """See Telling."""
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


Rewrite = Callable[[Content], Iterator[Content]]
"""One event, or a whole reply -> what is sent in its place."""


def _unchanged(content: Content) -> Iterator[Content]:
    yield content


_COUNTS: Mapping[str, Callable[[int], object]] = {
    "usage_text": lambda count: f"about {count}",
    "usage_nan": lambda count: float("nan"),
    "usage_inflated": lambda count: 1_000 * count,
    "usage_absurd": lambda count: 10**30 + count,
    "usage_negative": lambda count: -count,
}


def _usage(fault: str, usage: Any) -> Any:
    """The usage as the fault tells it, in all of its counts."""
    if fault == "usage_missing":
        return None
    if isinstance(usage, dict):
        return {name: _usage(fault, value) for name, value in usage.items()}
    return _COUNTS[fault](usage) if isinstance(usage, int) else usage


def _odd_usage(fault: str) -> Rewrite:
    def rewrite(content: Content) -> Iterator[Content]:
        message = content.get("message")
        if isinstance(message, dict) and "usage" in message:  # Anthropic's first event
            content = {**content, "message": {**message, "usage": _usage(fault, message["usage"])}}
        if content.get("usage"):
            content = {**content, "usage": _usage(fault, content["usage"])}
        yield content

    return rewrite


def _halves(text: str) -> tuple[str, str]:
    return text[: len(text) // 2], text[len(text) // 2 :]


# --- OpenAI's format ----------------------------------------------------------------------------------------


def _each_choice(rewrite: Callable[[Content, str], Content]) -> Rewrite:
    """Rewrites each choice, given the field that holds what it says: the delta of a chunk, or the message."""

    def rewritten(content: Content) -> Iterator[Content]:
        choices = [
            rewrite(choice, "delta" if "delta" in choice else "message")
            for choice in content.get("choices", ())
        ]
        yield {**content, "choices": choices}

    return rewritten


def _openai_half(content: Content) -> Iterator[Content]:
    for each in _OPENAI["no_finish"](content):
        yield {**each, "usage": None}


def _openai_parts(choice: Content, held: str) -> Content:
    thought = {"type": "thinking", "thinking": [{"type": "text", "text": _THOUGHT}]}
    said, whole = choice[held].get("content"), held == "message"
    if said is None:
        return choice
    texts = [text for text in (_halves(said) if whole else (said,)) if text]
    parts = [{"type": "text", "text": text} for text in texts]
    content = [thought, *parts] if whole or not said else parts  # a stream's first chunk is empty
    return {**choice, held: {**choice[held], "content": content}}


def _openai_tool(choice: Content, held: str) -> Content:
    said = choice[held].get("content")
    if choice["finish_reason"] == "stop":
        choice = {**choice, "finish_reason": "tool_calls"}
    if said is None:
        return choice
    call = {"id": "call_1", "type": "function", "function": {"name": "answer", "arguments": said}}
    called = [{"index": 0, **call} if held == "delta" else call]
    return {**choice, held: {**choice[held], "content": None, "tool_calls": called}}


_OPENAI: Mapping[str, Rewrite] = {
    "no_finish": _each_choice(lambda choice, _: {**choice, "finish_reason": None}),
    "no_finish_half": _openai_half,
    "parts": _each_choice(_openai_parts),
    "tool_call": _each_choice(_openai_tool),
    **{fault: _odd_usage(fault) for fault in USAGES},
}

# --- Anthropic's format -------------------------------------------------------------------------------------


def _anthropic_unfinished(content: Content) -> Iterator[Content]:
    if content["type"] == "message_delta":
        content = {**content, "delta": {**content["delta"], "stop_reason": None}}
    elif content["type"] == "message":
        content = {**content, "stop_reason": None}
    yield content


def _anthropic_half(content: Content) -> Iterator[Content]:
    for each in _anthropic_unfinished(content):
        yield {**each, "usage": None} if "usage" in each else each


def _anthropic_parts(content: Content) -> Iterator[Content]:
    """A thought before the text, which comes in two blocks where there is all of it."""
    match content["type"]:
        case "message":
            text = "".join(block["text"] for block in content["content"])
            blocks = [{"type": "text", "text": half} for half in _halves(text)]
            thought = {"type": "thinking", "thinking": _THOUGHT, "signature": "s"}
            yield {**content, "content": [thought, *blocks]}
        case "content_block_start":
            thought = {"type": "thinking", "thinking": "", "signature": ""}
            yield {"type": "content_block_start", "index": 0, "content_block": thought}
            delta = {"type": "thinking_delta", "thinking": _THOUGHT}
            yield {"type": "content_block_delta", "index": 0, "delta": delta}
            yield {"type": "content_block_stop", "index": 0}
            yield {**content, "index": 1}
        case "content_block_delta" | "content_block_stop":
            yield {**content, "index": 1}
        case _:
            yield content


def _anthropic_tool(content: Content) -> Iterator[Content]:
    tool = {"type": "tool_use", "id": "toolu_1", "name": "answer"}
    match content["type"]:
        case "message":
            text = "".join(block["text"] for block in content["content"])
            yield {**content, "content": [{**tool, "input": _object(text)}], "stop_reason": "tool_use"}
        case "content_block_start":
            yield {**content, "content_block": {**tool, "input": {}}}
        case "content_block_delta":
            delta = {"type": "input_json_delta", "partial_json": content["delta"]["text"]}
            yield {**content, "delta": delta}
        case "message_delta":
            yield {**content, "delta": {**content["delta"], "stop_reason": "tool_use"}}
        case _:
            yield content


def _object(text: str) -> Content:
    """A tool's arguments: the JSON object of a ranking, or an object around another text."""
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {"text": text}


_ANTHROPIC: Mapping[str, Rewrite] = {
    "no_finish": _anthropic_unfinished,
    "no_finish_half": _anthropic_half,
    "parts": _anthropic_parts,
    "tool_call": _anthropic_tool,
    **{fault: _odd_usage(fault) for fault in USAGES},
}
