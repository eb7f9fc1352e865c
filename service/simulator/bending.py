"""Bends a good answer into one of the bad ones that models give."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from service.simulator.reading import Form, Question

PROSE = "The user seems to like plain, useful things, so I would look at those first.\n"
_LISTS = {Form.LABEL: "ranking", Form.PAPER: "recommendations"}
_UNKNOWN = "ZZ"
_ENDLESS = 2_000


def bend(name: str, text: str, question: Question) -> str:
    """The answer as the fault makes it; a fault of rankings leaves other texts alone."""
    if name in _TEXTS:
        return _TEXTS[name](text)
    key = _LISTS.get(question.form)
    if key is None or name not in _ENTRIES:
        return text
    proposal = json.loads(text)
    proposal[key] = _ENTRIES[name](proposal[key], question)
    bent = json.dumps(proposal, ensure_ascii=False)
    if name == "half_label":
        return bent[: bent.rindex(str(proposal[key][-1])) + 1]
    return bent if name != "endless" else bent[: bent.rindex("]")]


_TEXTS: Mapping[str, Callable[[str], str]] = {
    "refusal": lambda text: "",
    "empty": lambda text: "",
    "prose": lambda text: PROSE + text,
    "fence": lambda text: f"```json\n{text}\n```",
    "no_json": lambda text: PROSE * 2,
}


def _titles(entries: list[str], question: Question) -> list[str]:
    titles = {candidate.name: candidate.title for candidate in question.candidates}
    return [titles.get(entry) or entry for entry in entries]


def _half(entries: list[str], question: Question) -> list[str]:
    return entries[: max(1, len(entries) // 2)]


_ENTRIES: Mapping[str, Callable[[list[str], Question], Any]] = {
    "duplicate": lambda entries, _: [entries[0], *entries][: len(entries)],
    "missing": _half,
    "unknown": lambda entries, _: [_UNKNOWN, *entries[1:]],
    "lowercase": lambda entries, _: [entry.lower() for entry in entries],
    "titles": _titles,
    "half_label": _half,
    "endless": lambda entries, _: entries * (_ENDLESS // len(entries)),
}
