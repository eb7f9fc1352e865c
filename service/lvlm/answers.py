"""Model text to an order of the pool. Pure, tolerant, and never given the target.

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

from service.lvlm import listings
from service.lvlm.answer_forms import Reading, offers, read_form
from service.lvlm.contracts import Form
from service.lvlm.entries import Candidates
from service.lvlm.loose_json import (
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
from service.lvlm.positions import Answer, place
from service.lvlm.prefaces import last_refusal
from service.lvlm.prompts import clean
from service.lvlm.thoughts import answer_start, spoken, unmarked

__all__ = [
    "Answer",
    "UnderWay",
    "complete_answer",
    "is_complete",
    "parse_labels",
    "parse_titles",
    "read_answer",
    "under_way",
]

MAX_TEXT = 65_536
MAX_WATCHED = 8_192
"""Characters of an answer that are read while it is still written."""

MAX_EXPLANATION = 600

KEYS: dict[Form, str] = {"label": "ranking", "paper": "recommendations"}


def parse_labels(text: str, names: Sequence[str], top: int) -> Answer:
    """Read an answer in the label form.

    Args:
        text: the model's text, or any prefix of it: an unfinished label is dropped.
        names: candidate names as the prompt showed them: some models answer these instead of their labels.
        top: number of labels asked for.
    """
    return read_answer(text, Candidates(names, "label"), top)


def parse_titles(text: str, names: Sequence[str]) -> Answer:
    """Read an answer in the paper's form.

    Args:
        text: the model's text, or any prefix of it.
        names: candidate names as the prompt showed them; all of them are asked for.
    """
    return read_answer(text, Candidates(names, "paper"), len(names))


def read_answer(text: str, candidates: Candidates, asked: int, *, finished: bool = True) -> Answer:
    """Read an answer in the form of the candidates.

    Args:
        text: the model's text, or any prefix of it.
        candidates: as the prompt showed them.
        asked: how many of them.
        finished: the text is all that the model said, so that a chain's last label is whole.
    """
    return _read(text, candidates, asked, finished=finished).answer


def complete_answer(text: str, names: Sequence[str], top: int, form: Form) -> bool:
    """Whether a text shows by itself that it is a complete ranking.

    Args:
        text: all that has arrived.
        names: candidate names as the prompt showed them.
        top: how many were asked for.
        form: of the prompt.
    """
    return is_complete(text, Candidates(names, form), top)


def is_complete(text: str, candidates: Candidates, asked: int) -> bool:
    """The same for candidates that are at hand: JSON must be closed, and every item asked for be there."""
    reading = _read(text, candidates, asked, finished=False)
    return reading.closed and bool(reading.answer.order) and not reading.answer.missing


@dataclass(frozen=True, slots=True)
class UnderWay:
    """What is certain of an answer that is still written.

    Attributes:
        order: so far; empty while the answer may yet turn out otherwise.
        over: nothing more will be certain before the end.
    """

    order: tuple[int, ...] = ()
    over: bool = False


def under_way(text: str, candidates: Candidates) -> UnderWay:
    """Read an answer while it is written.

    The order is a prefix of the one that ``read_answer`` finds in this text and in all that begin with it.
    """
    structure = _answer_object(text, MAX_WATCHED)
    if structure is None:
        return UnderWay()
    first = next(iter(members(structure.value, _is_key(candidates.form))), None)
    over = structure.value.closed or structure.end >= MAX_WATCHED
    if first is None:
        return UnderWay(over=over)
    if not isinstance(first.value, Array):
        return UnderWay(over=True)
    # Objects may be sorted by a rank that they hold, and numbers count only if all entries are numbers.
    strings = list(takewhile(lambda entry: isinstance(entry, str), first.value.entries))
    order = place(strings, candidates, len(strings), numbers=False).order
    return UnderWay(order, over or first.value.closed)


def _read(text: str, candidates: Candidates, asked: int, *, finished: bool = True) -> Reading:
    if structure := _answer_object(text):
        for held in members(structure.value, _is_key(candidates.form)):
            reading = _held(held, structure, candidates, asked)
            if reading.answer.order:
                return reading
    said = spoken(text)[:MAX_TEXT]
    return (
        _last_held(said, candidates, asked)
        or read_form(unmarked(said), candidates, asked, finished=finished)
        or Reading(Answer((), 0, 0, asked))
    )


def _answer_object(text: str, limit: int = MAX_TEXT) -> Structure | None:
    """The object that the text begins with, after thoughts and a fence."""
    start = answer_start(text)
    return read_structure(text[start : start + limit], 0) if text.startswith("{", start) else None


# --- the object that was asked for --------------------------------------------------------------------------


def _is_key(form: Form) -> Callable[[str], bool]:
    return lambda name: name.casefold() == KEYS[form]


def _held(held: Member, structure: Structure, candidates: Candidates, asked: int) -> Reading:
    entries, plain = _entries(held.value, candidates)
    answer = place(entries, candidates, asked)
    if structure.loose or not plain:
        answer = replace(answer, form=True)
    if answer.order and held.object is not None:
        answer = replace(answer, explanation=_explanation(held.object))
    return Reading(answer, structure.value.closed)


def _last_held(said: str, candidates: Candidates, asked: int) -> Reading | None:
    """The last usable ranking under the key; None if nothing stands under it."""
    best: tuple[Reading, Structure] | None = None
    is_key = _is_key(candidates.form)
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
            reading = _held(each, structure, candidates, asked)
            if reading.answer.order or best is None or not best[0].answer.order:
                best = reading, structure
    if best is None:
        return None
    reading, structure = best
    return replace(reading, closed=reading.closed and is_last(said, structure))


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
