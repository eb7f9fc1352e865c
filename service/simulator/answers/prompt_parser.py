"""Parses a prompt: its form, the history and the candidates.

Three forms are recognised. *Label*: a data block (a line ``<data>``, one JSON object, a line ``</data>``)
with ``history``, ``candidates`` under short labels, ``order`` and ``top``. *Paper*: two JSON arrays of
strings on lines of their own, after a line that ends in "oldest first:" (history) and one that ends in
"candidates:". *Caption*: a picture, and no candidates. Anything else is chat.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from service.simulator.contracts import ChatRequest

# The markers stand alone on their lines; inside a title they cannot, since JSON escapes line feeds.
_DATA_BLOCK = re.compile(r"^<data>[ \t]*\r?\n(.*?)\r?\n</data>[ \t]*$", re.MULTILINE | re.DOTALL)

# Words of the service's paper prompt for candidates in the candidate model's order.
_SAYS_RANKED = re.compile(r"\branked\b|\bbest first\b|\bmost likely first\b")


class PromptForm(StrEnum):
    """Forms of prompts; the ledger writes their values under ``kind``."""

    LABEL = "label"
    PAPER = "paper"
    CAPTION = "caption"
    CHAT = "chat"


@dataclass(frozen=True, slots=True)
class HistoryItem:
    """An item of the history.

    Attributes:
        title: title; empty when the prompt has none.
        caption: caption; empty when the prompt has none.
        pictured: whether one of the pictures, or a cell of the only one, shows it.
    """

    title: str
    caption: str
    pictured: bool


@dataclass(frozen=True, slots=True)
class Candidate:
    """An item to rank.

    Attributes:
        name: name of the item in the answer: its label, or its title in the paper form.
        title: title; empty when the prompt has none.
    """

    name: str
    title: str


@dataclass(frozen=True, slots=True)
class ParsedPrompt:
    """What a prompt asks for.

    Attributes:
        form: form of the prompt.
        history: items that the user took, oldest first.
        candidates: items to rank, in the order of the prompt.
        ranked: whether the order of the candidates is the candidate model's, rather than shuffled.
        top: number of names that the answer gives, 1 to the number of candidates; 0 when nothing is ranked.
        explain: whether the answer has an explanation.
    """

    form: PromptForm
    history: tuple[HistoryItem, ...] = ()
    candidates: tuple[Candidate, ...] = ()
    ranked: bool = False
    top: int = 0
    explain: bool = False


def parse_prompt(request: ChatRequest) -> ParsedPrompt:
    """Parses the prompt of a request; one of no known form, or with broken data, is chat."""
    text = "\n".join(request.texts)
    prompt = _read_labels(text, request) or _read_paper(text, bool(request.pictures))
    if prompt:
        return prompt
    # A data block that is no JSON is a mistake of the client, and not a request for a caption.
    broken = _DATA_BLOCK.search(text) is not None
    return ParsedPrompt(PromptForm.CAPTION if request.pictures and not broken else PromptForm.CHAT)


def _read_labels(text: str, request: ChatRequest) -> ParsedPrompt | None:
    blocks = list(_DATA_BLOCK.finditer(text))
    # The last block is the task; text before it may quote the form.
    data = _json(blocks[-1][1]) if blocks else None
    if not isinstance(data, dict):
        return None
    history = [_history_item(entry) for entry in _objects(data.get("history"))]
    candidates = [
        Candidate(str(entry["label"]), str(entry.get("title", "")))
        for entry in _objects(data.get("candidates"))
        if "label" in entry
    ]
    if not candidates:
        return None
    top = data.get("top")
    return ParsedPrompt(
        form=PromptForm.LABEL,
        history=tuple(history),
        candidates=tuple(candidates),
        ranked=data.get("order") == "ranked",
        top=min(top, len(candidates)) if isinstance(top, int) and top > 0 else len(candidates),
        explain=_wants_explanation(request.instructions + text[: blocks[-1].start()], request.schema),
    )


def _read_paper(text: str, pictured: bool) -> ParsedPrompt | None:
    lines = text.split("\n")  # not splitlines(): a title may hold U+2028
    introduction, titles = _array_after(lines, "candidates:")
    _, history = _array_after(lines, "oldest first:")
    if not titles:
        return None
    return ParsedPrompt(
        form=PromptForm.PAPER,
        history=tuple(HistoryItem(title, "", pictured) for title in history),
        candidates=tuple(Candidate(title, title) for title in titles),
        ranked=_SAYS_RANKED.search(introduction) is not None,
        top=len(titles),
        explain=True,
    )


def _history_item(entry: Mapping[str, Any]) -> HistoryItem:
    return HistoryItem(str(entry.get("title") or ""), str(entry.get("caption") or ""), "cell" in entry)


def _array_after(lines: list[str], ending: str) -> tuple[str, list[str]]:
    """Finds the last array of strings after a line with this ending.

    Returns:
        That line with the one before it, in lower case, and the strings; both empty when there is none.
    """
    found: tuple[str, list[str]] = "", []
    # Triples of neighbouring lines; the line before may say whether the candidates are ranked.
    for before, line, following in zip(["", *lines], lines, lines[1:], strict=False):
        if line.rstrip().lower().endswith(ending):
            value = _json(following)
            if isinstance(value, list) and all(isinstance(entry, str) for entry in value):
                found = f"{before} {line}".lower(), value
    return found


def _wants_explanation(instructions: str, schema: Mapping[str, Any] | None) -> bool:
    # With structured output the schema decides alone.
    if schema is not None:
        return "explanation" in schema.get("properties", {})
    return '"explanation"' in instructions


def _objects(value: Any) -> list[Mapping[str, Any]]:
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
