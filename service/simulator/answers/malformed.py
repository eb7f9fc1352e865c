"""Bends a good answer into one of the bad ones that models give."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from service.simulator.answers.prompt_parser import Form, Question

PROSE = "The user seems to like plain, useful things, so I would look at those first.\n"
_LISTS = {Form.LABEL: "ranking", Form.PAPER: "recommendations"}
_UNKNOWN = "ZZ"
_ENDLESS = 2_000


def bend(name: str, text: str, question: Question) -> str:
    """The answer as the fault makes it; a fault of rankings leaves other texts alone."""
    if name in _TEXTS:
        return _TEXTS[name](text)
    key = _LISTS.get(question.form)
    if key is None:
        return text
    if name in _FORMS:
        return _FORMS[name](json.loads(text)[key], question)
    if name not in _ENTRIES:
        return text
    proposal = json.loads(text)
    proposal[key] = _ENTRIES[name](proposal[key], question)
    bent = json.dumps(proposal, ensure_ascii=False)
    if name == "half_label":
        return _up_to_half(proposal, key)
    return bent if name != "endless" else bent[: bent.rindex("]")]


def _up_to_half(proposal: Mapping[str, Any], key: str) -> str:
    """The answer up to the first letter of the last entry of its list."""
    members = list(proposal)
    begun = {name: proposal[name] for name in members[: members.index(key) + 1]}
    last = json.dumps(proposal[key][-1], ensure_ascii=False)
    text = json.dumps(begun, ensure_ascii=False).removesuffix(f"{last}]}}")
    return text + last[:2]


_TEXTS: Mapping[str, Callable[[str], str]] = {
    "refusal": lambda text: "",
    "empty": lambda text: "",
    "prose": lambda text: PROSE + text,
    "fence": lambda text: f"```json\n{text}\n```",
    "no_json": lambda text: PROSE * 2,
    "no_finish_half": lambda text: text[: len(text) // 2],
}


def _thoughts(entries: list[str], question: Question) -> str:
    """A draft that names candidates, and then a bare list."""
    first, *_, last = question.candidates
    draft = f"[{first.name}] and [{last.name}] look fine, perhaps {json.dumps([last.name, first.name])}."
    return f"<think>{draft}</think>\n{json.dumps(entries)}"


def _one_based(entries: list[str], question: Question) -> str:
    places = {candidate.name: place for place, candidate in enumerate(question.candidates, start=1)}
    return json.dumps({"ranking": [places[entry] for entry in entries]})


def _mention(entries: list[str], question: Question) -> str:
    """Prose in which some of the candidates are named, in no order."""
    first, *_, last = entries
    return f"Of these, {first} and {last} seem to suit the user, though {first} is dear. I cannot say more."


_FORMS: Mapping[str, Callable[[list[str], Question], str]] = {
    "thoughts": _thoughts,
    "arrow": lambda entries, _: " > ".join(f"[{entry}]" for entry in entries),
    "numbered": lambda entries, _: "\n".join(f"{at}. {entry}" for at, entry in enumerate(entries, start=1)),
    "single_quotes": lambda entries, _: repr({"ranking": entries}),
    "objects": lambda entries, _: json.dumps({"ranking": [{"label": e, "reason": "fits"} for e in entries]}),
    "one_based": _one_based,
    "mention": _mention,
}
"""The whole text, made of the ranking."""


def _titles(entries: list[str], question: Question) -> list[str]:
    titles = {candidate.name: candidate.title for candidate in question.candidates}
    return [titles.get(entry) or entry for entry in entries]


def _half(entries: list[str], question: Question) -> list[str]:
    return entries[: max(1, len(entries) // 2)]


def _half_label(entries: list[str], question: Question) -> list[str]:
    """Half of them, the last one a label of two letters whose half is a label as well, if there is any.

    Who takes the half for the whole then ranks an item that was not named, and one that nothing else names.
    """
    half = _half(entries, question)
    names = [candidate.name for candidate in question.candidates]
    double = next((name for name in names if len(name) == 2 and name[0] in names), None)
    if double is None:
        return half
    others = [entry for entry in entries if entry not in (double, double[0])]
    return [*others[: len(half) - 1], double]


_ENTRIES: Mapping[str, Callable[[list[str], Question], Any]] = {
    "duplicate": lambda entries, _: [entries[0], *entries][: len(entries)],
    "missing": _half,
    "unknown": lambda entries, _: [_UNKNOWN, *entries[1:]],
    "lowercase": lambda entries, _: [entry.lower() for entry in entries],
    "titles": _titles,
    "half_label": _half_label,
    "endless": lambda entries, _: entries * (_ENDLESS // len(entries)),
}
