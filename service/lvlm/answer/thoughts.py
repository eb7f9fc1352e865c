"""Removes the thoughts of reasoning models, and marks around answers, from a model's text.

Reasoning models write their thoughts between tags, and servers that do not parse them pass them on:
``<think>`` of DeepSeek and Qwen, ``[THINK]`` of Mistral, ``◁think▷`` of Kimi, the channels of gpt-oss. Where
the chat template itself opens the thoughts, the text has only the closing tag.
"""

from __future__ import annotations

import re

_OPENING = (
    r"<(?:think(?:ing)?|thoughts?|reasoning|reflection|seed:think)>"
    r"|\[think\]|◁think▷|<\|begin_of_thought\|>|<\|channel\|>analysis<\|message\|>"
)
_CLOSING = (
    r"</(?:think(?:ing)?|thoughts?|reasoning|reflection|seed:think)>"
    r"|\[/think\]|◁/think▷|<\|end_of_thought\|>|<\|channel\|>final<\|message\|>"
)
_OPEN = re.compile(_OPENING, re.IGNORECASE)
_CLOSE = re.compile(_CLOSING, re.IGNORECASE)
_TAG = re.compile(f"(?P<open>{_OPENING})|{_CLOSING}", re.IGNORECASE)

_MARK = re.compile(
    r"</?(?:answer|ranking|final_answer|final|output|result|response|json|s)>"
    r"|<\|[\w ]{1,30}\|>|\\boxed(?=\{)",
    re.IGNORECASE,
)
"""Tags that some models put around their answers, and special tokens that a server failed to remove."""

_BOXED = re.compile(r"\\boxed\{([^{}:]*+)\}")
"""LaTeX's box around something that is no JSON object; models trained on mathematics use it for answers."""

_SPACE = re.compile(r"[\s\ufeff]*+")
_FENCE = re.compile(r"```[a-z0-9]*+", re.IGNORECASE)


def answer_start(text: str) -> int:
    """Returns the offset at which the answer begins, after thoughts, a code fence and marks.

    For a text that is all thoughts it is the text's length. Once a brace stands at the offset, no later text
    changes it; ``parser.certain_prefix`` relies on that.
    """
    at = 0
    while True:
        at = _end(_SPACE, text, at) or at
        if text.startswith("{", at):  # before any look at closing tags further on, which may be in strings
            return at
        if opening := _OPEN.match(text, at):
            closing = _CLOSE.search(text, opening.end())
            if closing is None:
                return len(text)
            at = closing.end()
            continue
        after = next(filter(None, (_end(each, text, at) for each in (_CLOSE, _FENCE, _MARK))), None)
        if after is None and (closing := _CLOSE.search(text, at)):  # the chat template began the thoughts
            after = closing.end()
        if after is None:
            return at
        at = after


def without_thoughts(text: str) -> str:
    """Returns a text without its thoughts, whether their closing tag has come or not."""
    pieces: list[str] = []
    at, thinking = 0, False
    for tag in _TAG.finditer(text):
        if tag["open"] is not None:
            if not thinking:
                pieces.append(text[at : tag.start()])
            thinking = True
        else:
            # Thoughts are not nested: the first closing tag ends them.
            if not thinking:  # a closing tag alone: all text before it was thoughts
                pieces.clear()
            thinking = False
        at = tag.end()
    if not thinking:
        pieces.append(text[at:])
    return "\n".join(pieces)


def without_marks(text: str) -> str:
    """Returns a text in which line ends replace the tags and boxes that some models put around answers."""
    return _MARK.sub("\n", _BOXED.sub(r"\n\1\n", text))


def _end(pattern: re.Pattern[str], text: str, at: int) -> int | None:
    """The offset after a pattern that begins at ``at``; None if it does not begin there."""
    found = pattern.match(text, at)
    return found.end() if found else None
