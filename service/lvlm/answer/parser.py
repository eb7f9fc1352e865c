"""Parses a model's text into an order of the pool. Pure, tolerant, and never given the target.

Whatever the text is, the result is a list of different pool positions with counts of what was wrong.

What is asked for is one JSON object. If the text begins with it (after thoughts and a fence), that object is
the answer, whatever follows: then the items may be shown while it is still written. Otherwise the last usable
one in the text is, since a model may think aloud before it answers, or else one of the forms that models use
instead (``answer_forms``).
"""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile

from service.lvlm.answer import listings
from service.lvlm.answer.entries import Candidates
from service.lvlm.answer.loose_json import (
    Array,
    Member,
    Object,
    Structure,
    Value,
    deep_members,
    is_last,
    members,
    name_before,
    read_structure,
    structures,
)
from service.lvlm.answer.other_forms import ParsedText, offers, read_form
from service.lvlm.answer.positions import parse_entries
from service.lvlm.answer.prefaces import last_refusal
from service.lvlm.answer.thoughts import answer_start, spoken, unmarked
from service.lvlm.contracts import Form, ParsedAnswer
from service.lvlm.prompt.prompts import clean

MAX_TEXT = 65_536
"""Characters of an answer that are read, thoughts left out; what follows them is ignored."""

MAX_WATCHED = 8_192
"""Characters of an answer that are read while it is still written; nothing beyond is shown before its end."""

MAX_EXPLANATION = 600
"""Characters of an explanation that are kept."""

KEYS: dict[Form, str] = {"label": "ranking", "paper": "recommendations"}
"""Member of the JSON object asked for that holds the ranking, by the form of the prompt."""


def read_answer(text: str, candidates: Candidates, asked: int, *, finished: bool = True) -> ParsedAnswer:
    """Reads an answer in the form of the candidates.

    Args:
        text: the model's text, or any prefix of it.
        candidates: the pool as the prompt showed it.
        asked: number of candidates asked for.
        finished: whether the text is all that the model said, so that a chain's last label is whole.
    """
    return _read(text, candidates, asked, finished=finished).answer


def is_complete(text: str, candidates: Candidates, asked: int) -> bool:
    """Tells whether a text shows by itself that it is a complete ranking.

    Its JSON must be closed, and every item asked for be there; arguments as for ``read_answer``.
    """
    parsed = _read(text, candidates, asked, finished=False)
    return parsed.closed and bool(parsed.answer.order) and not parsed.answer.missing


@dataclass(frozen=True, slots=True)
class UnderWay:
    """What is certain of an answer that is still written.

    Attributes:
        order: positions in the pool so far; empty while the answer may yet turn out otherwise.
        over: whether nothing more will be certain before the end.
    """

    order: tuple[int, ...] = ()
    over: bool = False


def under_way(text: str, candidates: Candidates) -> UnderWay:
    """Reads an answer while it is written.

    The order is a prefix of the one that ``read_answer`` finds in this text and in all that begin with it.
    """
    structure = _answer_object(text, MAX_WATCHED)
    if structure is None:
        return UnderWay()
    # The first member of that name alone: read_answer prefers it if any of it can be used.
    first = next(iter(members(structure.value, _is_key(candidates.form))), None)
    over = structure.value.closed or structure.end >= MAX_WATCHED
    if first is None:
        return UnderWay(over=over)
    if not isinstance(first.value, Array):
        return UnderWay(over=True)
    # Objects may be sorted by a rank that they hold, and numbers count only if all entries are numbers.
    strings = list(takewhile(lambda entry: isinstance(entry, str), first.value.entries))
    order = parse_entries(strings, candidates, len(strings), numbers=False).order
    return UnderWay(order, over or first.value.closed)


def _read(text: str, candidates: Candidates, asked: int, *, finished: bool = True) -> ParsedText:
    if structure := _answer_object(text):
        for held in members(structure.value, _is_key(candidates.form)):
            parsed = _held(held, structure, candidates, asked)
            if parsed.answer.order:
                return parsed
    # Not what was asked for: look for the last ranking under the key, then for other forms.
    said = spoken(text)[:MAX_TEXT]
    return (
        _last_held(said, candidates, asked)
        or read_form(unmarked(said), candidates, asked, finished=finished)
        or ParsedText(ParsedAnswer((), 0, 0, asked))
    )


def _answer_object(text: str, limit: int = MAX_TEXT) -> Structure | None:
    """The object that the text begins with, after thoughts and a fence."""
    start = answer_start(text)
    return read_structure(text[start : start + limit], 0) if text.startswith("{", start) else None


# --- the object that was asked for --------------------------------------------------------------------------


def _is_key(form: Form) -> Callable[[str], bool]:
    return lambda name: name.casefold() == KEYS[form]


def _held(held: Member, structure: Structure, candidates: Candidates, asked: int) -> ParsedText:
    entries, plain = _entries(held.value, candidates)
    answer = parse_entries(entries, candidates, asked)
    if structure.loose or not plain:
        answer = replace(answer, form=True)
    if answer.order and held.object is not None:
        answer = replace(answer, explanation=_explanation(held.object))
    return ParsedText(answer, structure.value.closed)


def _last_held(said: str, candidates: Candidates, asked: int) -> ParsedText | None:
    """The last usable ranking under the key; None if nothing stands under it."""
    best: tuple[ParsedText, Structure] | None = None
    is_key = _is_key(candidates.form)
    # A ranking that a refusal follows is not the answer.
    refused = last_refusal(said)
    for structure in structures(said):
        if refused >= structure.end:
            continue
        held = list(deep_members(structure.value, is_key))
        if not held and is_key(name_before(said, structure)):
            held = [Member(structure.value)]
        if held and not offers(said, structure):
            continue
        for each in held:
            parsed = _held(each, structure, candidates, asked)
            if parsed.answer.order or best is None or not best[0].answer.order:
                best = parsed, structure
    if best is None:
        return None
    parsed, structure = best
    return replace(parsed, closed=parsed.closed and is_last(said, structure))


def _entries(value: Value, candidates: Candidates) -> tuple[Sequence[Value], bool]:
    """The entries of a ranking, and whether it is an array as it was asked for."""
    if isinstance(value, Array):
        return value.entries, True
    if isinstance(value, Object):  # {"1": "C", "2": "A"}
        names = [name.strip() for name, _ in value.members]
        if names and names == [str(at) for at in range(1, len(names) + 1)]:
            return [entry for _, entry in value.members], False
    if isinstance(value, str):
        chains = listings.chains(value, candidates, finished=True)
        found = chains or listings.enumeration(value, candidates, finished=True)
        if len(found) == 1:
            return found[0].entries, False
    return (), False


def _explanation(value: Object) -> str | None:
    for at, (name, said) in enumerate(value.members, start=1):
        ended = value.closed or at < len(value.members)  # half a sentence explains nothing
        if name.strip().casefold() == "explanation" and isinstance(said, str) and ended:
            return html.escape(clean(said, MAX_EXPLANATION)) or None
    return None
