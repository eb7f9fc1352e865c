"""Reads the maps of ``datamaps.json``, and tells which of its two kinds of ids a file uses."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import repeat
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from models.data.amazon_plus.files import shown
from models.data.report import ReadingReport
from models.errors import DataError

log = logging.getLogger(__name__)

DATAMAPS = "datamaps.json"

_LONGEST_NUMBER = 1024
"""Bits of a whole number that can be an id: more would have more digits than an id has characters."""

UNKNOWN = -1
"""Number of an item or user that ``datamaps.json`` lacks."""

Kind = Literal["item", "user"]
Naming = Literal["internal", "public"]


@dataclass(frozen=True)
class IdMap:
    """The items or the users of a data set, numbered from 0 in the order of ``datamaps.json``.

    Attributes:
        kind: what the ids name.
        internal: internal ids, each once.
        public: public id of each, not yet checked; empty for one that has none.
    """

    kind: Kind
    internal: Sequence[str]
    public: Sequence[str]

    def __len__(self) -> int:
        return len(self.internal)

    @cached_property
    def by_internal(self) -> dict[str, int]:
        """Number by internal id."""
        return {internal: number for number, internal in enumerate(self.internal)}

    @cached_property
    def by_public(self) -> dict[str, int]:
        """Number by public id; the first of equal ones."""
        numbers: dict[str, int] = {}
        for number, public in enumerate(self.public):
            if public:
                numbers.setdefault(public, number)
        return numbers

    def place(self, number: int) -> str:
        """Says where an item or user stands."""
        return f"{DATAMAPS}, {self.kind} {shown(self.internal[number])}"

    def numbers(self, words: Sequence[str], source: str, first: Naming = "internal") -> NDArray[np.int32]:
        """Finds what the ids of a file name, internal ids or public ones: whichever knows more of them.

        Args:
            words: ids as the file has them.
            source: name of the file, for messages.
            first: which ids they are if both know as many.

        Returns:
            Number of each, int32 [words]; ``UNKNOWN`` for an unknown one.

        Raises:
            DataError: neither kind of ids knows half of them.
        """
        namings: tuple[Naming, ...] = (first, "public" if first == "internal" else "internal")
        found = _look_up(self._numbers_by(first), words)
        if unknown := _unknown(found):
            tried = {naming: _look_up_numbers(self._numbers_by(naming), words) for naming in namings}
            first = min(namings, key=lambda naming: _unknown(tried[naming]))
            found, unknown = tried[first], _unknown(tried[first])
        log.info("%s: the ids of its %ss are the %s ones", source, self.kind, first)
        if 2 * unknown > len(words):
            example = shown(words[int(np.argmax(found == UNKNOWN))])
            raise DataError(
                f"{source}: {unknown:,} of {len(words):,} ids of {self.kind}s are not in {DATAMAPS}, the "
                f"first is {example!r}: one of the two files is of other data"
            )
        return found

    def is_ambiguous(self, words: Iterable[str]) -> bool:
        """Returns whether words are internal and public ids as well, of different items or users."""
        pairs = {(self.by_internal.get(word), self.by_public.get(word)) for word in words}
        return all(None not in pair for pair in pairs) and any(ours != theirs for ours, theirs in pairs)

    def _numbers_by(self, naming: Naming) -> dict[str, int]:
        return self.by_internal if naming == "internal" else self.by_public


def _look_up(numbers: Mapping[str, int], words: Sequence[str]) -> NDArray[np.int32]:
    return np.fromiter(map(numbers.get, words, repeat(UNKNOWN)), dtype=np.int32, count=len(words))


def _look_up_numbers(numbers: Mapping[str, int], words: Sequence[str]) -> NDArray[np.int32]:
    """Looks words up; a program that took ids for numbers may have written 7 as 7.0."""
    return _look_up(numbers, [w if w in numbers or not w.endswith(".0") else w[:-2] for w in words])


def _unknown(found: NDArray[np.int32]) -> int:
    return int(np.count_nonzero(found == UNKNOWN))


def id_text(value: object) -> str | None:
    """Returns the text of an id that may be a number, 7.0 as 7; None for what is no id."""
    if isinstance(value, str):
        return value if value.strip() else None
    match value:
        case bool():  # JSON true is an int to Python
            return None
        case int():
            return str(value) if value.bit_length() <= _LONGEST_NUMBER else None
        case float() if math.isfinite(value):
            return str(int(value)) if value.is_integer() else str(value)
    return None


def read_id_map(
    maps: Mapping[str, Any],
    kind: Kind,
    words: Callable[[], Sequence[str]],
    side: object,
    report: ReadingReport,
    like: IdMap | None = None,
) -> IdMap:
    """Reads the map of internal to public ids, also where it is the other way round or a list.

    Args:
        maps: contents of ``datamaps.json``.
        kind: which map.
        words: function that returns ids of the kind as another file has them, most likely internal ones.
        side: contents of ``item2side.json`` for the items, else None.
        report: report that entries without an id are counted in.
        like: the other map, which a list of ids is numbered like if nothing else says how.

    Raises:
        DataError: there is no such map, it is empty, or a list that could be numbered from 0 or from 1.
    """
    key, other = f"id2{kind}", f"{kind}2id"
    if isinstance(value := maps.get(key), dict) and value:
        if not _is_inverted(value, kind, words(), side):
            return _checked(kind, value.items(), report)
        report.change("maps", f"{key} is from public to internal ids: it is inverted", DATAMAPS)
        return _checked(kind, [(internal, public) for public, internal in value.items()], report)
    if isinstance(value, list) and value:
        start = _start(value, key, words(), side, like)
        report.change("maps", f"{key} is a list: its entries are numbered from {start}", DATAMAPS)
        # An entry without an id at 0 only fills its place where ids begin with 1.
        skipped = int(start == 0 and value[0] is None)
        return _checked(kind, list(enumerate(value[skipped:], start + skipped)), report)
    if isinstance(value := maps.get(other), dict) and value:
        report.change("maps", f"{key} is not there: it is made of {other}", DATAMAPS)
        return _checked(kind, [(internal, public) for public, internal in value.items()], report)
    raise DataError(f"{DATAMAPS}: {key} must be a non-empty object from internal to public ids")


def _checked(kind: Kind, pairs: Collection[tuple[object, object]], report: ReadingReport) -> IdMap:
    """Makes the texts of both ids, and leaves out what has none."""
    internals, publics = zip(*pairs, strict=True) if pairs else ((), ())
    texts = (*internals, *publics)
    if set(map(type, texts)) == {str} and all(map(str.strip, texts)) and len(set(internals)) == len(pairs):
        return IdMap(kind, internals, publics)  # nearly every file: a look at each pair would take longer
    public_of: dict[str, str] = {}
    for number, (internal_value, public_value) in enumerate(pairs, 1):
        internal = id_text(internal_value)
        if internal is not None and internal not in public_of:
            # One without a public id keeps its number, which lists in a pickle go by; it is left out later.
            public_of[internal] = id_text(public_value) or ""
            continue
        reason = "they have no internal id" if internal is None else "their internal id is taken"
        place = f"{DATAMAPS}, {kind} {number if internal is None else shown(internal)}"
        report.read(f"{kind}s")
        report.leave_out(f"{kind}s", reason, place)
    if not any(public_of.values()):
        raise DataError(f"{DATAMAPS}: id2{kind} holds no id: fetch it again")
    return IdMap(kind, tuple(public_of), tuple(public_of.values()))


def _is_inverted(value: Mapping[str, Any], kind: Kind, words: Sequence[str], side: object) -> bool:
    """Tells whether a map is from public to internal ids.

    It is looked at closely only where it does not know the internal ids of the other file. The records of
    the items then say what is right, or else that internal ids are numbers from 0 or 1 without gaps.
    """
    sample = words[:: 1 + len(words) // 1_000]
    if sample and 10 * sum(map(value.__contains__, sample)) >= 9 * len(sample):
        return False
    texts = {key: id_text(each) for key, each in value.items()}
    if kind == "item" and isinstance(side, dict):
        right = sum(asin_of(side.get(key)) == text for key, text in texts.items() if key in side)
        inverted = sum(asin_of(side.get(text)) == key for key, text in texts.items() if text in side)
        if right or inverted:
            return inverted > right
    return _are_counted(texts.values()) and not _are_counted(texts)


def _are_counted(ids: Iterable[str | None]) -> bool:
    """Returns whether nearly all ids are numbers no larger than their count."""
    texts = list(ids)
    low = [text for text in texts if text and len(text) <= 9 and text.isascii() and text.isdecimal()]
    return 20 * sum(int(text) <= len(texts) for text in low) >= 19 * len(texts)


def _start(value: Sequence[Any], key: str, words: Iterable[str], side: object, like: IdMap | None) -> int:
    """Finds the internal id of the first entry of a list of public ids, 0 or 1."""
    texts = [id_text(each) for each in value]
    agreeing = [
        sum(text is not None and asin_of(side.get(str(at))) == text for at, text in enumerate(texts, start))
        if isinstance(side, dict)
        else 0
        for start in (0, 1)
    ]
    used = {*words, *(side if isinstance(side, dict) else ())}
    first, last = "0" in used, str(len(value)) in used
    if agreeing[0] != agreeing[1]:
        return int(agreeing[1] > agreeing[0])
    if value[0] is None:
        return 0
    if first != last:
        return int(last)
    if like is not None and not first and ("0" in like.by_internal) != (str(len(like)) in like.by_internal):
        return int("0" not in like.by_internal)
    raise DataError(
        f"{DATAMAPS}: {key} is a list, and nothing says whether its first entry is 0 or 1: make it an object "
        "from internal to public ids"
    )


def asin_of(record: object) -> str | None:
    """Returns the public id that a record of ``item2side.json`` has; None without one."""
    return id_text(record.get("asin")) if isinstance(record, dict) else None
