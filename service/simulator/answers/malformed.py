"""Turns a good answer into one of the malformed ones that models give."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from service.simulator.answers.prompt_parser import ParsedPrompt, PromptForm

PROSE = "The user seems to like plain, useful things, so I would look at those first.\n"
_LISTS = {PromptForm.LABEL: "ranking", PromptForm.PAPER: "recommendations"}
_UNKNOWN = "ZZ"  # a label that no prompt has: it would be that of candidate 702
_ENDLESS = 2_000  # entries of a list that never closes


def malform(name: str, text: str, prompt: ParsedPrompt) -> str:
    """Changes an answer as a fault asks.

    Args:
        name: name of the fault.
        text: good answer to the prompt.
        prompt: prompt that it answers; faults of rankings leave the answers to captions and chats alone.
    """
    if name in _TEXTS:
        return _TEXTS[name](text)
    key = _LISTS.get(prompt.form)
    if key is None:
        return text
    if name in _FORMS:
        return _FORMS[name](json.loads(text)[key], prompt)
    if name not in _ENTRIES:
        return text
    # Answers to ranking prompts are JSON objects, so that they can be taken apart.
    proposal = json.loads(text)
    proposal[key] = _ENTRIES[name](proposal[key], prompt)
    malformed = json.dumps(proposal, ensure_ascii=False)
    if name == "half_label":
        return _up_to_half(proposal, key)
    # "endless" ends before its list closes.
    return malformed if name != "endless" else malformed[: malformed.rindex("]")]


def _up_to_half(proposal: Mapping[str, Any], key: str) -> str:
    """Cuts the answer after the first letter of the last entry of its list."""
    members = list(proposal)
    # Members up to the list; an explanation behind it is cut away.
    begun = {name: proposal[name] for name in members[: members.index(key) + 1]}
    last = json.dumps(proposal[key][-1], ensure_ascii=False)
    text = json.dumps(begun, ensure_ascii=False).removesuffix(f"{last}]}}")
    return text + last[:2]


# Faults that change the text of any answer.
_TEXTS: Mapping[str, Callable[[str], str]] = {
    "refusal": lambda text: "",
    "empty": lambda text: "",
    "prose": lambda text: PROSE + text,
    "fence": lambda text: f"```json\n{text}\n```",
    "no_json": lambda text: PROSE * 2,
    "no_finish_half": lambda text: text[: len(text) // 2],
}


def _thoughts(entries: list[str], prompt: ParsedPrompt) -> str:
    """Writes a draft that names candidates, as reasoning models do, and then a bare list."""
    first, *_, last = prompt.candidates
    draft = f"[{first.name}] and [{last.name}] look fine, perhaps {json.dumps([last.name, first.name])}."
    return f"<think>{draft}</think>\n{json.dumps(entries)}"


def _one_based(entries: list[str], prompt: ParsedPrompt) -> str:
    """Writes positions in the prompt, from 1, instead of labels."""
    positions = {candidate.name: position for position, candidate in enumerate(prompt.candidates, start=1)}
    return json.dumps({"ranking": [positions[entry] for entry in entries]})


def _mention(entries: list[str], prompt: ParsedPrompt) -> str:
    """Writes prose that names some of the candidates in no order."""
    first, *_, last = entries
    return f"Of these, {first} and {last} seem to suit the user, though {first} is dear. I cannot say more."


_FORMS: Mapping[str, Callable[[list[str], ParsedPrompt], str]] = {
    "thoughts": _thoughts,
    "arrow": lambda entries, _: " > ".join(f"[{entry}]" for entry in entries),
    "numbered": lambda entries, _: "\n".join(f"{at}. {entry}" for at, entry in enumerate(entries, start=1)),
    "single_quotes": lambda entries, _: repr({"ranking": entries}),
    "objects": lambda entries, _: json.dumps({"ranking": [{"label": e, "reason": "fits"} for e in entries]}),
    "one_based": _one_based,
    "mention": _mention,
}
"""Faults that write the whole text anew from the ranking."""


def _titles(entries: list[str], prompt: ParsedPrompt) -> list[str]:
    titles = {candidate.name: candidate.title for candidate in prompt.candidates}
    return [titles.get(entry) or entry for entry in entries]


def _half(entries: list[str], prompt: ParsedPrompt) -> list[str]:
    return entries[: max(1, len(entries) // 2)]


def _half_label(entries: list[str], prompt: ParsedPrompt) -> list[str]:
    """Takes half of the entries, and ends with a label of two letters whose first letter is a label as well.

    The text is then cut inside that label: a parser that takes "A" for the whole of "AB" ranks an item that
    the answer does not name.
    """
    half = _half(entries, prompt)
    names = [candidate.name for candidate in prompt.candidates]
    double = next((name for name in names if len(name) == 2 and name[0] in names), None)
    if double is None:
        return half
    others = [entry for entry in entries if entry not in (double, double[0])]
    return [*others[: len(half) - 1], double]


# Faults that change the entries of the ranking alone.
_ENTRIES: Mapping[str, Callable[[list[str], ParsedPrompt], Any]] = {
    "duplicate": lambda entries, _: [entries[0], *entries][: len(entries)],
    "missing": _half,
    "unknown": lambda entries, _: [_UNKNOWN, *entries[1:]],
    "lowercase": lambda entries, _: [entry.lower() for entry in entries],
    "titles": _titles,
    "half_label": _half_label,
    "endless": lambda entries, _: entries * (_ENDLESS // len(entries)),
}
