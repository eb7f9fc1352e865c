"""Rewrites Anthropic's replies into those of servers that only resemble it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from service.simulator.contracts import Content, Rewrite
from service.simulator.faults import USAGES
from service.simulator.wire.lookalikes import THOUGHT, halves, odd_usage


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
    """Adds a block of reasoning before the text, and cuts the text of a plain answer into two blocks."""
    match content["type"]:
        case "message":
            text = "".join(block["text"] for block in content["content"])
            blocks = [{"type": "text", "text": half} for half in halves(text)]
            thought = {"type": "thinking", "thinking": THOUGHT, "signature": "s"}
            yield {**content, "content": [thought, *blocks]}
        case "content_block_start":
            # The reasoning takes index 0, so that the text moves to index 1.
            thought = {"type": "thinking", "thinking": "", "signature": ""}
            yield {"type": "content_block_start", "index": 0, "content_block": thought}
            delta = {"type": "thinking_delta", "thinking": THOUGHT}
            yield {"type": "content_block_delta", "index": 0, "delta": delta}
            yield {"type": "content_block_stop", "index": 0}
            yield {**content, "index": 1}
        case "content_block_delta" | "content_block_stop":
            yield {**content, "index": 1}
        case _:
            yield content


def _anthropic_tool(content: Content) -> Iterator[Content]:
    # The block of a tool call streams its arguments as pieces of JSON text.
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
    """Makes a tool's arguments: the JSON object of a ranking, or an object around another text."""
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {"text": text}


ANTHROPIC_LOOKALIKES: Mapping[str, Rewrite] = {
    "no_finish": _anthropic_unfinished,
    "no_finish_half": _anthropic_half,
    "parts": _anthropic_parts,
    "tool_call": _anthropic_tool,
    **{fault: odd_usage(fault) for fault in USAGES},
}
