"""Turns the entries of an answer into distinct pool positions, and counts what was wrong with them.

In: the entries of one ranking, already found in the text. Out: a ``ParsedAnswer``. Where a ranking is found
in a text is the matter of ``parser``, ``other_forms`` and ``listings``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from service.lvlm.answer.entries import Candidates, number
from service.lvlm.answer.loose_json import Object, Value
from service.lvlm.contracts import ParsedAnswer

# Names under which entries that are objects hold their label and their rank, in the order of preference.
_LABEL_KEYS = ("label", "id", "letter", "candidate", "item", "option", "key", "title", "name")
_RANK_KEYS = ("rank", "position", "place")


def parse_entries(
    entries: Sequence[Value], candidates: Candidates, asked: int, *, numbers: bool = True
) -> ParsedAnswer:
    """Turns entries into pool positions in the order in which they stand; never raises.

    Args:
        entries: labels, titles, objects that hold them, or numbers that count the candidates from 1.
        candidates: candidates as the prompt showed them.
        asked: number of candidates that the prompt asked for.
        numbers: whether numbers may stand for candidates, which they do only if all entries are numbers;
            False where more entries may follow, so that this is not known yet.
    """
    entries, form = _labels(entries)
    counted = _counted(entries, candidates) if numbers else None
    if counted is not None:
        form = True
        # Some models count from 0; which of them does is not known, so all entries count as invented.
        if 0 in counted:
            return ParsedAnswer((), len(entries), 0, asked, form=True)
    order: dict[int, None] = {}  # a dict as an ordered set
    invented = duplicated = 0
    for index, entry in enumerate(entries):
        possible: Sequence[int] = ()
        if counted is not None:
            possible = (counted[index] - 1,) if 1 <= counted[index] <= candidates.size else ()
        elif isinstance(entry, str):
            possible, as_asked = _positions(entry, candidates)
            form |= not as_asked
        # Items of the same title: the first entry means the first of them, the second the next.
        free = [position for position in possible if position not in order]
        if free:
            order[free[0]] = None
        elif possible:
            duplicated += 1
        else:
            invented += 1
    return ParsedAnswer(tuple(order), invented, duplicated, max(0, asked - len(order)), form=form)


def _counted(entries: Sequence[Value], candidates: Candidates) -> list[int] | None:
    """The numbers of entries that are all numbers; None if one is not, or if one is a candidate's title."""
    counted = [count for entry in entries if (count := _number(entry)) is not None]
    if not counted or len(counted) < len(entries):
        return None
    # A product may be called "300": then a number is a title and counts nothing.
    titled = any(isinstance(entry, str) and candidates.positions_of_title(entry) for entry in entries)
    return None if titled else counted


def _positions(entry: str, candidates: Candidates) -> tuple[Sequence[int], bool]:
    """The positions that an entry can mean, and whether it is in the form asked for or names no candidate."""
    if found := candidates.positions(entry):
        return found, True
    item = candidates.leading_item(entry)  # "C: the blue mug"
    found = candidates.positions(item.entry) if item and item.short else ()
    return found, not found


def _labels(entries: Sequence[Value]) -> tuple[Sequence[Value], bool]:
    """Entries, with their labels in place of objects, sorted by the ranks in them; and whether any is one."""
    objects = [entry for entry in entries if isinstance(entry, Object)]
    if not objects:
        return entries, False
    # Objects that hold the ranks 1 to n are taken in the order of the ranks; other ranks change nothing.
    if len(objects) == len(entries):
        ranks = [_member(entry, _RANK_KEYS, (int,)) for entry in objects]
        if sorted(ranks, key=str) == sorted(range(1, len(ranks) + 1), key=str):
            by_rank = dict(zip(ranks, objects, strict=True))
            entries = [by_rank[rank] for rank in range(1, len(ranks) + 1)]
    labels = [
        _member(each, _LABEL_KEYS, (str, int)) if isinstance(each, Object) else each for each in entries
    ]
    return labels, True


def _member(value: Object, names: Iterable[str], kinds: tuple[type, ...]) -> Value:
    """The first member that has one of the names, by the order of the names, and is of one of the kinds."""
    # Reversed, so that of two members with one name the first stays.
    members = {name.strip().casefold(): member for name, member in reversed(value.members)}
    found = (members.get(name) for name in names)
    return next((each for each in found if isinstance(each, kinds) and not isinstance(each, bool)), None)


def _number(entry: Value) -> int | None:
    if isinstance(entry, bool):  # bool is a subclass of int
        return None
    if isinstance(entry, float):
        return int(entry) if entry.is_integer() else None
    return entry if isinstance(entry, int) else number(entry) if isinstance(entry, str) else None
