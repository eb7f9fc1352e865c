"""Parses a model's text into an order of the pool's candidates.

In: a text and the candidates as the prompt showed them. Out: distinct pool positions, best first, and counts
of what was wrong. No text raises an error, nothing is fetched, and the item that the user took next is never
known here.

The prompt asks for one JSON object. If the text begins with it (after thoughts and a code fence), that object
is the answer, whatever follows: its items can then be shown while the rest is still streamed. Otherwise the
last usable object in the text counts, since a model may reason aloud before it answers, or else one of the
other forms that models use (``other_forms``).
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
from service.lvlm.answer.other_forms import ParsedText, is_offered_structure, read_form
from service.lvlm.answer.positions import parse_entries
from service.lvlm.answer.prefaces import last_refusal
from service.lvlm.answer.thoughts import answer_start, without_marks, without_thoughts
from service.lvlm.contracts import Form, ParsedAnswer
from service.lvlm.prompt.prompts import clean

MAX_TEXT = 65_536
"""Characters of an answer that are read, its thoughts left out; what comes after them is ignored."""

MAX_STREAMED = 8_192
"""Characters of an answer that are read while it is streamed; items after them are shown only at its end."""

MAX_EXPLANATION = 600
"""Characters of an explanation that are kept; the rest is cut off."""

KEYS: dict[Form, str] = {"label": "ranking", "paper": "recommendations"}
"""Name of the JSON member that holds the ranking, by the form of the prompt (``prompts``)."""


def read_answer(text: str, candidates: Candidates, asked: int, *, finished: bool = True) -> ParsedAnswer:
    """Parses a text into an order of the candidates; never raises.

    Args:
        text: the model's text, or any prefix of it.
        candidates: candidates as the prompt showed them.
        asked: number of candidates that the prompt asked for, at least 1.
        finished: whether the text is the model's whole answer. If not, a label at its very end may be the
            beginning of a longer one and is left out.

    Returns:
        The order and the counts of what was wrong; an empty order if the text holds no ranking.
    """
    return _read(text, candidates, asked, finished=finished).answer


def is_complete(text: str, candidates: Candidates, asked: int) -> bool:
    """Tells whether a text alone shows that it is a complete ranking.

    Its JSON must be closed, and every item asked for must be there; arguments as for ``read_answer``.
    """
    parsed = _read(text, candidates, asked, finished=False)
    if not parsed.closed or not parsed.answer.order or parsed.answer.missing:
        return False
    # The end may begin something that was left out, or spoil the chain: both readings must give a ranking.
    return not read_answer(text, candidates, asked).missing


@dataclass(frozen=True, slots=True)
class CertainPrefix:
    """The part of a streamed answer's order that no later text can change.

    Attributes:
        order: pool positions, best first; empty while the answer may still take another form.
        final: whether later text adds nothing to this order until the answer has ended.
    """

    order: tuple[int, ...] = ()
    final: bool = False


def certain_prefix(text: str, candidates: Candidates) -> CertainPrefix:
    """Reads the beginning of an answer that is still streamed; never raises.

    Args:
        text: everything received so far.
        candidates: candidates as the prompt showed them.

    Returns:
        An order that is a prefix of the one that ``read_answer`` finds in this text and in every text that
        begins with it.
    """
    structure = _answer_object(text, MAX_STREAMED)
    if structure is None:
        return CertainPrefix()
    # Of several members of that name only the first: read_answer takes it if any of its entries is usable.
    first = next(iter(members(structure.value, _is_key(candidates.form))), None)
    final = structure.value.closed or structure.end >= MAX_STREAMED
    if first is None:
        return CertainPrefix(final=final)
    if not isinstance(first.value, Array):
        return CertainPrefix(final=True)
    # Only strings are certain: objects may yet be sorted by a rank that they hold, and numbers count only if
    # all entries are numbers.
    strings = list(takewhile(lambda entry: isinstance(entry, str), first.value.entries))
    order = parse_entries(strings, candidates, len(strings), numbers=False).order
    return CertainPrefix(order, final or first.value.closed)


def _read(text: str, candidates: Candidates, asked: int, *, finished: bool = True) -> ParsedText:
    if structure := _answer_object(text):
        for member in members(structure.value, _is_key(candidates.form)):
            parsed = _parse_member(member, structure, candidates, asked)
            if parsed.answer.order:
                return parsed
    # Not what was asked for: look for the last ranking under the key, then for other forms.
    answer = without_thoughts(text)[:MAX_TEXT]
    return (
        _last_member(answer, candidates, asked)
        or read_form(without_marks(answer), candidates, asked, finished=finished)
        or ParsedText(ParsedAnswer((), 0, 0, asked))
    )


def _answer_object(text: str, limit: int = MAX_TEXT) -> Structure | None:
    """The object that a text begins with, after thoughts and a code fence; None if it begins otherwise."""
    start = answer_start(text)
    return read_structure(text[start : start + limit], 0) if text.startswith("{", start) else None


# --- the object that was asked for --------------------------------------------------------------------------


def _is_key(form: Form) -> Callable[[str], bool]:
    return lambda name: name.casefold() == KEYS[form]


def _parse_member(member: Member, structure: Structure, candidates: Candidates, asked: int) -> ParsedText:
    """Parses the member under the key; ``structure`` is the text's outermost object around it."""
    entries, plain = _entries(member.value, candidates)
    answer = parse_entries(entries, candidates, asked)
    if structure.loose or not plain:
        answer = replace(answer, form=True)
    if answer.order and member.object is not None:
        answer = replace(answer, explanation=_explanation(member.object))
    return ParsedText(answer, structure.value.closed)


def _last_member(text: str, candidates: Candidates, asked: int) -> ParsedText | None:
    """The last usable ranking under the key, anywhere in a text; None if the key is nowhere."""
    best: tuple[ParsedText, Structure] | None = None
    is_key = _is_key(candidates.form)
    # A ranking that a refusal follows is not the answer.
    refused = last_refusal(text)
    for structure in structures(text):
        if refused >= structure.end:
            continue
        found = list(deep_members(structure.value, is_key))
        if not found and is_key(name_before(text, structure)):
            found = [Member(structure.value)]
        if found and not is_offered_structure(text, structure):
            continue
        for member in found:
            parsed = _parse_member(member, structure, candidates, asked)
            # An unusable ranking counts only while there is no usable one: its faults are then reported.
            if parsed.answer.order or best is None or not best[0].answer.order:
                best = parsed, structure
    if best is None:
        return None
    parsed, structure = best
    return replace(parsed, closed=parsed.closed and is_last(text, structure))


def _entries(value: Value, candidates: Candidates) -> tuple[Sequence[Value], bool]:
    """The entries of a ranking, and whether it is an array as the prompt asked for."""
    if isinstance(value, Array):
        return value.entries, True
    if isinstance(value, Object):  # {"1": "C", "2": "A"}
        names = [name.strip() for name, _ in value.members]
        if names and names == [str(at) for at in range(1, len(names) + 1)]:
            return [entry for _, entry in value.members], False
    if isinstance(value, str):
        chains = listings.chains(value, candidates, finished=True)
        found = chains or listings.enumeration(value, candidates, finished=True)  # "C > A > B", "C, A, B"
        if len(found) == 1:
            return found[0].entries, False
    return (), False


def _explanation(value: Object) -> str | None:
    """The explanation beside a ranking, safe to show in HTML; None without a whole one."""
    for number, (name, member) in enumerate(value.members, start=1):
        # The last member of an object that is not closed may be cut off in the middle of a sentence.
        ended = value.closed or number < len(value.members)
        if name.strip().casefold() == "explanation" and isinstance(member, str) and ended:
            return html.escape(clean(member, MAX_EXPLANATION)) or None
    return None
