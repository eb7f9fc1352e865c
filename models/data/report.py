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


_Counts = dict[tuple[str, str], _Count]  # by kind and reason


class ReadingReport:
    """What a reader met that is not as it should be.

    A record is *left out* when something in it is wrong, and that has a limit. It is *skipped* when it is
    right and yet not wanted (a return, what is outside of a k-core), and *changed* when the data set has it
    in another form than the file (a repeated interaction, markup in a title).

    Args:
        limit: share of the records of one kind that may be left out; None for 1 %, or ten records in a
            small data set.
    """

    def __init__(self, limit: float | None = None) -> None:
        self._limit = limit
        self._read: dict[str, int] = {}
        self._left_out: _Counts = {}
        self._skipped: _Counts = {}
        self._changed: _Counts = {}

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

    def skip(self, kind: str, reason: str, place: str, number: int = 1) -> None:
        """Counts records that are right and yet not wanted; as ``leave_out``, but without a limit."""
        self._count(self._skipped, "skipped", kind, reason, place, number)

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
        """Returns the rows of a table: ``left out``, ``skipped`` or ``changed``, and a sentence about it."""
        # The number comes last, so that the sentence is the same for one record and for many.
        return [
            (label, f"{kind}: {reason} ({count})")
            for label, counts in self._by_label().items()
            for (kind, reason), count in counts.items()
        ]

    def to_json(self) -> dict[str, Any]:
        """Returns the counts as they stand in the manifest of a catalogue."""
        return {
            "read": dict(self._read),
            **{
                _field(label): [
                    {"kind": kind, "reason": reason, "number": count.number, "first": count.first}
                    for (kind, reason), count in counts.items()
                ]
                for label, counts in self._by_label().items()
            },
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> ReadingReport:
        """Makes a report of what ``to_json`` returned; what else a manifest holds there is ignored."""
        report = cls()
        read = record.get("read")
        if isinstance(read, dict):
            report._read.update({_visible(kind): n for kind, n in read.items() if _is_count(n)})
        for label, counts in report._by_label().items():
            lines = record.get(_field(label))
            for line in lines if isinstance(lines, list) else ():
                match line:
                    case {"kind": str(kind), "reason": str(reason), "number": number, "first": str(first)}:
                        if _is_count(number):
                            counts[_visible(kind), _visible(reason)] = _Count(number, _visible(first))
        return report

    def _by_label(self) -> dict[str, _Counts]:
        return {"left out": self._left_out, "skipped": self._skipped, "changed": self._changed}

    def _borne(self, read: int) -> float:
        if self._limit is not None:
            return self._limit * read
        return borne(read)

    def _count(
        self,
        counts: _Counts,
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


def _field(label: str) -> str:
    return label.replace(" ", "_")


def _is_count(value: object) -> bool:
    return type(value) is int and value >= 0


def _visible(text: str) -> str:
    """Replaces what a terminal would obey, and halves of surrogate pairs, by question marks."""
    return "".join(each if each.isprintable() else "?" for each in text)
