"""Turns the entries of an answer into positions in the pool, with counts of what was wrong with them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from service.lvlm.answer.entries import Candidates, number
from service.lvlm.answer.loose_json import Object, Value
from service.lvlm.contracts import ParsedAnswer

_LABEL_KEYS = ("label", "id", "letter", "candidate", "item", "option", "key", "title", "name")
_RANK_KEYS = ("rank", "position", "place")


def parse_entries(
    entries: Sequence[Value], candidates: Candidates, asked: int, *, numbers: bool = True
) -> ParsedAnswer:
    """Reads entries in their order.

    Args:
        entries: labels, titles, objects that hold them, or numbers that count the candidates from 1.
        candidates: the pool as the prompt showed it.
        asked: number of candidates asked for.
        numbers: whether numbers count, which they do only where nothing else is there; False where more
            entries may follow.
    """
    entries, form = _texts(entries)
    counted = _counted(entries, candidates) if numbers else None
    if counted is not None:
        form = True
        if 0 in counted:  # some count from 0, and nothing tells which
            return ParsedAnswer((), len(entries), 0, asked, form=True)
    order: dict[int, None] = {}
    invented = duplicated = 0
    for at, entry in enumerate(entries):
        meant: Sequence[int] = ()
        if counted is not None:
            meant = (counted[at] - 1,) if 1 <= counted[at] <= candidates.size else ()
        elif isinstance(entry, str):
            meant, as_asked = _meant(entry, candidates)
            form |= not as_asked
        # Items of the same title: the first entry means the first of them, the second the next.
        free = [position for position in meant if position not in order]
        if free:
            order[free[0]] = None
        elif meant:
            duplicated += 1
        else:
            invented += 1
    return ParsedAnswer(tuple(order), invented, duplicated, max(0, asked - len(order)), form=form)


def _counted(entries: Sequence[Value], candidates: Candidates) -> list[int] | None:
    """The numbers that entries are; None if not all of them are, or if one is a title."""
    counted = [count for entry in entries if (count := _number(entry)) is not None]
    if not counted or len(counted) < len(entries):
        return None
    titled = any(isinstance(entry, str) and candidates.titled(entry) for entry in entries)
    return None if titled else counted


def _meant(entry: str, candidates: Candidates) -> tuple[Sequence[int], bool]:
    """The positions that an entry can mean, and whether it is nothing but a label or a title."""
    if found := candidates.meant(entry):
        return found, True
    heading = candidates.heading(entry)
    found = candidates.meant(heading.entry) if heading and heading.short else ()
    return found, not found


def _texts(entries: Sequence[Value]) -> tuple[Sequence[Value], bool]:
    """Entries, of objects their labels, by the ranks that they hold; and whether there are objects."""
    objects = [entry for entry in entries if isinstance(entry, Object)]
    if not objects:
        return entries, False
    # Objects that hold the ranks 1 to n count in that order, however they stand.
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
    members = {name.strip().casefold(): member for name, member in reversed(value.members)}
    found = (members.get(name) for name in names)
    return next((each for each in found if isinstance(each, kinds) and not isinstance(each, bool)), None)


def _number(entry: Value) -> int | None:
    if isinstance(entry, bool):
        return None
    if isinstance(entry, float):
        return int(entry) if entry.is_integer() else None
    return entry if isinstance(entry, int) else number(entry) if isinstance(entry, str) else None
