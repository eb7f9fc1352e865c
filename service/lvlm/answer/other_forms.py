"""Rankings in other forms than the one that was asked for: which of them a text holds, if any.

Prose mentions candidates too, and some models repeat what they were asked. So of several listings the last
one counts only if all that was asked for is in it, and the prompt's own list of candidates never does.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from service.lvlm.answer import listings
from service.lvlm.answer.entries import Candidates
from service.lvlm.answer.listings import MAX_LISTINGS, Listing
from service.lvlm.answer.loose_json import (
    Array,
    Member,
    Object,
    Structure,
    Value,
    deep_members,
    is_last,
    name_before,
    structures,
)
from service.lvlm.answer.positions import parse_entries
from service.lvlm.answer.prefaces import is_offered, last_refusal
from service.lvlm.contracts import ParsedAnswer

MAX_SAID = 16_384
"""Characters at the end of a text in which other forms are looked for; what stands before is not read."""


@dataclass(frozen=True, slots=True)
class ParsedText:
    """An answer as it stands in a text.

    Attributes:
        answer: what the text says.
        closed: whether the text shows that the answer has come to its end.
    """

    answer: ParsedAnswer
    closed: bool = False


def read_form(said: str, candidates: Candidates, asked: int, *, finished: bool) -> ParsedText | None:
    """Reads a ranking in another form than JSON under its key; None if no form has one."""
    said = said[-MAX_SAID:]
    found = list(structures(said))
    bare = [each for each in found if not name_before(said, each)]
    # From what can hardly be anything else to what is often prose; later kinds are read only if needed.
    kinds: tuple[Callable[[], list[Listing]], ...] = (
        lambda: listings.arrays(said, bare, plain=True),
        lambda: _other_keys(said, found),
        lambda: listings.chains(said, candidates, finished=finished),
        lambda: listings.numbered(said, candidates, finished=finished),
        lambda: listings.arrays(said, bare, plain=False),
        lambda: listings.enumeration(said, candidates, finished=finished),
    )
    parsed = (_chosen(kind(), candidates, asked) for kind in kinds)
    return next(filter(None, parsed), None)


def _other_keys(said: str, found: Iterable[Structure]) -> list[Listing]:
    """Arrays under names that mean a ranking too."""
    last: deque[tuple[Structure, Array]] = deque(maxlen=MAX_LISTINGS)
    refused = last_refusal(said)
    for structure in found:
        if refused >= structure.end:
            continue
        held = list(deep_members(structure.value, _is_other_key))
        if _is_other_key(name_before(said, structure)):
            held.append(Member(structure.value))
        for each in held:
            if (
                isinstance(each.value, Array) and not _numbers(each.value) and offers(said, structure)
            ):  # those may be scores
                last.append((structure, each.value))
    return [
        Listing(array.entries, alone=True, closed=structure.value.closed, rest=not is_last(said, structure))
        for structure, array in last
    ]


def offers(said: str, structure: Structure) -> bool:
    """Tells whether a structure under a ranking's name is given as the answer."""
    return is_offered(said, structure.start, structure.end, closed=structure.value.closed, named=True)


def _numbers(array: Array) -> bool:
    return any(isinstance(entry, int | float) for entry in array.entries)


def _is_other_key(name: str) -> bool:
    return _OTHER_KEY.fullmatch(name) is not None


def _chosen(found: Sequence[Listing], candidates: Candidates, asked: int) -> ParsedText | None:
    """The last listing if it has all that was asked for, or if it is the only one and stands alone."""
    # More invented items than real ones make it a list of something else.
    usable = []
    for listing in found:
        answer = parse_entries(listing.entries, candidates, asked)
        plausible = answer.order and len(answer.order) >= answer.invented
        if plausible and not _is_echo(listing, answer.order, candidates, asked):
            usable.append((listing, answer))
    if not usable:
        return None
    listing, answer = usable[-1]
    # A listing that is repeated, as in a summary at the end, is one.
    only = all(other.order == answer.order for _, other in usable)
    if answer.missing and not (listing.alone and only):
        return None
    form = answer.form or not listing.plain
    return ParsedText(replace(answer, form=form), listing.closed and not listing.rest)


def _is_echo(listing: Listing, order: Sequence[int], candidates: Candidates, asked: int) -> bool:
    """Whether it repeats the prompt's list of candidates: titles, in the order shown, to the end of the list.

    More than were asked for, or a list that was cut off, are enough to tell.
    """
    if candidates.size < 2 or list(order) != list(range(len(order))):
        return False
    entries = listing.entries if listing.closed else listing.entries[:-1]  # the last one may be cut off
    if not (listing.titled or all(_is_titled(entry, candidates) for entry in entries)):
        return False
    return len(order) == candidates.size or len(order) > asked or not listing.closed


def _is_titled(entry: Value, candidates: Candidates) -> bool:
    if isinstance(entry, Object):
        return any(name.casefold() in ("title", "name") for name, _ in entry.members)
    heading = candidates.heading(entry) if isinstance(entry, str) else None
    return heading is not None and heading.titled


_OTHER_KEY = re.compile(
    r"(?:final_?)?(?:rank\w*|order\w*|recommend\w*|answers?|results?|output)",
    re.IGNORECASE,
)
