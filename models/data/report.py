"""Counts what a reader leaves out of a data set or changes in it, and says when that is too much."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from models.contracts.limits import borne
from models.errors import DataError

log = logging.getLogger(__name__)

LOGGED = 3
"""Records of one kind and reason whose places are logged; further ones are only counted."""


@dataclass
class _Count:
    number: int
    first: str

    def __str__(self) -> str:
        return f"{self.number:,}{', first' if self.number > 1 else ''}: {self.first}"


class ReadingReport:
    """What a reader met that is not as it should be.

    A record is *left out* when something in it is wrong. It is *changed* when the data set has it in another
    form than the file (a repeated interaction, markup in a title); that is usual, and has no limit.

    Args:
        limit: share of the records of one kind that may be left out; None for 1 %, or ten records in a
            small data set.
    """

    def __init__(self, limit: float | None = None) -> None:
        self._limit = limit
        self._read: dict[str, int] = {}
        self._left_out: dict[tuple[str, str], _Count] = {}
        self._changed: dict[tuple[str, str], _Count] = {}

    def read(self, kind: str, number: int = 1) -> None:
        """Counts records that were looked at, good or not; the limit is a share of them.

        Args:
            kind: plural name of the records: ``interactions``, ``items``, ``users``, ``captions``, …
            number: number of records.
        """
        self._read[kind] = self._read.get(kind, 0) + number

    def leave_out(self, kind: str, reason: str, place: str, number: int = 1) -> None:
        """Counts records that are left out.

        Args:
            kind: plural name of the records.
            reason: what is wrong, the same words for the same kind of fault.
            place: file and line or id of the first of them, without the path of the folder.
            number: number of records.
        """
        self._count(self._left_out, "left out", kind, reason, place, number)

    def change(self, kind: str, reason: str, place: str, number: int = 1) -> None:
        """Counts records that are in the data set in another form than in the file; as ``leave_out``."""
        self._count(self._changed, "changed", kind, reason, place, number)

    def check(self) -> None:
        """Refuses data of which too much was left out.

        Raises:
            DataError: of one kind of records more than the limit were left out.
        """
        for kind, read in self._read.items():
            reasons = {reason: count for (k, reason), count in self._left_out.items() if k == kind}
            left_out = sum(count.number for count in reasons.values())
            if left_out > self._borne(read):
                reason, worst = max(reasons.items(), key=lambda pair: pair[1].number)
                raise DataError(
                    f"{left_out:,} of {read:,} {kind} would be left out, most because {reason} (first: "
                    f"{worst.first}): repair the data, or bear more with --max-left-out"
                )

    def lines(self) -> list[tuple[str, str]]:
        """Returns the rows of a table: ``left out`` or ``changed``, and of what, why, how many and where."""
        # The number comes last, so that the sentence is the same for one record and for many.
        return [
            (label, f"{kind}: {reason} ({count})")
            for label, counts in (("left out", self._left_out), ("changed", self._changed))
            for (kind, reason), count in counts.items()
        ]

    def to_json(self) -> dict[str, Any]:
        """Returns the counts as they stand in the manifest of a catalogue."""
        return {
            "read": dict(self._read),
            **{
                name: [
                    {"kind": kind, "reason": reason, "number": count.number, "first": count.first}
                    for (kind, reason), count in counts.items()
                ]
                for name, counts in (("left_out", self._left_out), ("changed", self._changed))
            },
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> ReadingReport:
        """Makes a report of what ``to_json`` returned; what else a manifest holds there is ignored."""
        report = cls()
        read = record.get("read")
        if isinstance(read, dict):
            report._read.update({_visible(kind): n for kind, n in read.items() if _is_count(n)})
        for counts, name in ((report._left_out, "left_out"), (report._changed, "changed")):
            lines = record.get(name)
            for line in lines if isinstance(lines, list) else ():
                match line:
                    case {"kind": str(kind), "reason": str(reason), "number": number, "first": str(first)}:
                        if _is_count(number):
                            counts[_visible(kind), _visible(reason)] = _Count(number, _visible(first))
        return report

    def _borne(self, read: int) -> float:
        if self._limit is not None:
            return self._limit * read
        return borne(read)

    def _count(
        self,
        counts: dict[tuple[str, str], _Count],
        what: str,
        kind: str,
        reason: str,
        place: str,
        number: int,
    ) -> None:
        if not number:
            return
        count = counts.get((kind, reason))
        if count is None:  # names of files may hold anything, and a manifest no halves of surrogate pairs
            kind, reason = _visible(kind), _visible(reason)
            count = counts.setdefault((kind, reason), _Count(0, _visible(place)))
        if count.number < LOGGED:
            log.warning(
                "%s: %s %s: %s%s", _visible(place), kind, what, reason, f" ({number:,})" if number > 1 else ""
            )
        count.number += number


def _is_count(value: object) -> bool:
    return type(value) is int and value >= 0


def _visible(text: str) -> str:
    """Replaces what a terminal would obey, and halves of surrogate pairs, by question marks."""
    return "".join(each if each.isprintable() else "?" for each in text)
