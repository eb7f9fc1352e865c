"""Rewrites OpenAI's replies into those of servers that only resemble it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from service.simulator.contracts import Content, Rewrite
from service.simulator.faults import USAGES
from service.simulator.wire.lookalikes import THOUGHT, halves, odd_usage


def _each_choice(rewrite: Callable[[Content, str], Content]) -> Rewrite:
    """Makes a rewrite of each choice, given the field with its text: ``delta`` of a chunk, or ``message``."""

    def rewritten(content: Content) -> Iterator[Content]:
        choices = [
            rewrite(choice, "delta" if "delta" in choice else "message")
            for choice in content.get("choices", ())
        ]
        yield {**content, "choices": choices}

    return rewritten


def _openai_half(content: Content) -> Iterator[Content]:
    for each in OPENAI_LOOKALIKES["no_finish"](content):
        yield {**each, "usage": None}


def _openai_parts(choice: Content, held: str) -> Content:
    thought = {"type": "thinking", "thinking": [{"type": "text", "text": THOUGHT}]}
    said, whole = choice[held].get("content"), held == "message"
    if said is None:
        return choice
    texts = [text for text in (halves(said) if whole else (said,)) if text]
    parts = [{"type": "text", "text": text} for text in texts]
    content = [thought, *parts] if whole or not said else parts  # a stream's first chunk is empty
    return {**choice, held: {**choice[held], "content": content}}


def _openai_tool(choice: Content, held: str) -> Content:
    said = choice[held].get("content")
    if choice["finish_reason"] == "stop":
        choice = {**choice, "finish_reason": "tool_calls"}
    if said is None:
        return choice
    # Arguments are a string of JSON.
    call = {"id": "call_1", "type": "function", "function": {"name": "answer", "arguments": said}}
    called = [{"index": 0, **call} if held == "delta" else call]
    return {**choice, held: {**choice[held], "content": None, "tool_calls": called}}


OPENAI_LOOKALIKES: Mapping[str, Rewrite] = {
    "no_finish": _each_choice(lambda choice, _: {**choice, "finish_reason": None}),
    "no_finish_half": _openai_half,
    "parts": _each_choice(_openai_parts),
    "tool_call": _each_choice(_openai_tool),
    **{fault: odd_usage(fault) for fault in USAGES},
}
