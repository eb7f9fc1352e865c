"""Reads a user's history: that of the bundle with the events since, or the one that a request gives."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from service.catalogue.bundle import Catalogue
from service.stores.base import StoreError
from service.stores.events import Events

MAX_IDS, MAX_ID_LENGTH = 10, 40
"""Ids that a sentence to a client names, and characters of each; further ids are counted, longer ones cut."""


@dataclass(frozen=True, slots=True)
class History:
    """A history as item rows.

    Attributes:
        rows: item rows, oldest first; an item that was taken twice is in it twice.
        known_user: whether the bundle or the events have the user.
        warnings: sentences about what was left out of the history and why.
        events_read: whether the events could be read; if not, an unknown user may only seem to be one.
    """

    rows: list[int]
    known_user: bool = True
    warnings: tuple[str, ...] = ()
    events_read: bool = True


class HistoryReader:
    """Joins the histories of a catalogue with the events since."""

    def __init__(self, events: Events) -> None:
        self._events = events

    async def stored(self, catalogue: Catalogue, user_id: str, max_wait: float = 60.0) -> History:
        """Returns the user's complete history; without the events, and with a warning, if their store fails.

        Args:
            catalogue: catalogue that the rows belong to; items of events that it lacks are left out.
            user_id: user of the catalogue or of the events.
            max_wait: seconds that the store of the events may take.
        """
        rows = catalogue.histories.get(user_id)
        warnings: tuple[str, ...] = ()
        read = True
        try:
            async with asyncio.timeout(max_wait):
                item_ids: Sequence[str] = await self._events.get(user_id)
        except (StoreError, TimeoutError):
            item_ids, read = (), False
            warnings = ("recent events are not included: their store is down",)
        known = rows is not None or bool(item_ids)
        if read and not known:
            warnings = (*warnings, f"unknown user {user_id[:80]!r}")
        # Events outlive a bundle: a newer one may lack some of their items.
        recent = [catalogue.rows[item_id] for item_id in item_ids if item_id in catalogue.rows]
        return History([*(rows or ()), *recent], known, warnings, read)


def given_history(catalogue: Catalogue, item_ids: Sequence[str]) -> History:
    """Returns the history that a request gives; ids that the catalogue lacks are left out, with a warning."""
    rows, unknown = [], []
    for item_id in item_ids:
        row = catalogue.rows.get(item_id)
        if row is None:
            unknown.append(item_id)
        else:
            rows.append(row)
    warnings = (f"unknown items left out of the history: {list_ids(unknown)}",) if unknown else ()
    return History(rows, True, warnings)


def list_ids(item_ids: Sequence[str]) -> str:
    """Returns the first few ids, shortened, and how many more there are, for a sentence to a client."""
    unique = list(dict.fromkeys(item_ids))  # in their order
    shown = ", ".join(
        item_id if len(item_id) <= MAX_ID_LENGTH else item_id[:MAX_ID_LENGTH] + "…"
        for item_id in unique[:MAX_IDS]
    )
    return shown if len(unique) <= MAX_IDS else f"{shown} and {len(unique) - MAX_IDS} more"
