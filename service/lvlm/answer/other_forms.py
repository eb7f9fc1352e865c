"""Finds a ranking in another form than the JSON that was asked for, and decides whether it is the answer.

In: a text without thoughts and marks. Out: one ranking, or None. ``listings`` finds the forms; here is the
choice among them. Prose mentions candidates too, and some models repeat the prompt: so of several listings
the last one counts only if all that was asked for is in it, and the prompt's own list of candidates never
counts.
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

MAX_TAIL = 16_384
"""Characters at the end of a text in which other forms are looked for; the text before them is not read."""


@dataclass(frozen=True, slots=True)
class ParsedText:
    """An answer that was found in a text.

    Attributes:
        answer: order and counts of faults.
        closed: whether the text shows that the answer is whole, as a closed bracket does.
    """

    answer: ParsedAnswer
    closed: bool = False


def read_form(text: str, candidates: Candidates, asked: int, *, finished: bool) -> ParsedText | None:
    """Returns the ranking that a text holds in another form than JSON under the key; None without one.

    Args:
        text: the model's text, without thoughts and marks.
        candidates: candidates as the prompt showed them.
        asked: number of candidates that the prompt asked for.
        finished: whether the text is the model's whole answer, so that its last label is whole too.
    """
    text = text[-MAX_TAIL:]
    found = list(structures(text))
    bare = [each for each in found if not name_before(text, each)]
    # Ordered from the kind that is hardly ever prose to the one that often is. Each is a function, so that
    # later kinds are looked for only if the earlier ones are not there.
    kinds: tuple[Callable[[], list[Listing]], ...] = (
        lambda: listings.arrays(text, bare, plain=True),
        lambda: _other_keys(text, found),
        lambda: listings.chains(text, candidates, finished=finished),
        lambda: listings.numbered(text, candidates, finished=finished),
        lambda: listings.arrays(text, bare, plain=False),
        lambda: listings.enumeration(text, candidates, finished=finished),
    )
    parsed = (_choose(kind(), candidates, asked) for kind in kinds)
    return next(filter(None, parsed), None)


def _other_keys(text: str, found: Iterable[Structure]) -> list[Listing]:
    """The last arrays under names like ``order`` or ``recommendations``, which mean a ranking too."""
    last: deque[tuple[Structure, Array]] = deque(maxlen=MAX_LISTINGS)
    refused = last_refusal(text)
    for structure in found:
        if refused >= structure.end:
            continue
        found_members = list(deep_members(structure.value, _is_other_key))
        if _is_other_key(name_before(text, structure)):
            found_members.append(Member(structure.value))
        for member in found_members:
            array = member.value
            # Numbers under such a name may be scores or ratings.
            if isinstance(array, Array) and not _numbers(array) and is_offered_structure(text, structure):
                last.append((structure, array))
    return [
        Listing(array.entries, alone=True, closed=structure.value.closed, rest=not is_last(text, structure))
        for structure, array in last
    ]


def is_offered_structure(text: str, structure: Structure) -> bool:
    """Tells whether JSON under a name that means a ranking is given as the answer (``prefaces``)."""
    return is_offered(text, structure.start, structure.end, closed=structure.value.closed, named=True)


def _numbers(array: Array) -> bool:
    return any(isinstance(entry, int | float) for entry in array.entries)


def _is_other_key(name: str) -> bool:
    return _OTHER_KEY.fullmatch(name) is not None


def _choose(found: Sequence[Listing], candidates: Candidates, asked: int) -> ParsedText | None:
    """The last listing, if all that was asked for is in it, or if it is the only one and stands alone."""
    usable = []
    for listing in found:
        answer = parse_entries(listing.entries, candidates, asked)
        # With more invented items than real ones it is a list of something else.
        plausible = answer.order and len(answer.order) >= answer.invented
        if plausible and not _is_echo(listing, answer.order, candidates, asked):
            usable.append((listing, answer))
    if not usable:
        return None
    listing, answer = usable[-1]
    # A listing that is repeated, as in a summary at the end, counts as one.
    only = all(other.order == answer.order for _, other in usable)
    if answer.missing and not (listing.alone and only):
        return None
    form = answer.form or not listing.plain
    return ParsedText(replace(answer, form=form), listing.closed and not listing.rest)


def _is_echo(listing: Listing, order: Sequence[int], candidates: Candidates, asked: int) -> bool:
    """Whether a listing repeats the prompt's list of candidates: with titles, in the order shown.

    It must go to the end of the prompt's list, hold more items than were asked for, or be cut off.
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
    item = candidates.leading_item(entry) if isinstance(entry, str) else None
    return item is not None and item.titled


# Names that models give to a ranking instead of the one that was asked for.
_OTHER_KEY = re.compile(
    r"(?:final_?)?(?:rank\w*|order\w*|recommend\w*|answers?|results?|output)",
    re.IGNORECASE,
)
