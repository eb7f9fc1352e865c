"""What a user took, oldest first: the bundle's stored history and the events since."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from service.bundle import Catalogue
from service.stores.base import Events, StoreError


@dataclass(frozen=True, slots=True)
class History:
    """A history as item rows.

    Attributes:
        rows: oldest first.
        known_user: whether the bundle or the events know the user.
        warnings: what was left out and why.
    """

    rows: list[int]
    known_user: bool = True
    warnings: tuple[str, ...] = ()


class HistoryReader:
    """Joins the stored histories with the events."""

    def __init__(self, catalogue: Catalogue, events: Events) -> None:
        self._catalogue = catalogue
        self._events = events

    async def stored(self, user_id: str, patience: float = 60.0) -> History:
        """The user's complete history; without the events, and with a warning, when their store is down.

        Args:
            user_id: of the bundle or the events.
            patience: seconds that the store of the events may take.
        """
        rows = self._catalogue.histories.get(user_id)
        warnings: tuple[str, ...] = ()
        try:
            async with asyncio.timeout(patience):
                item_ids = await self._events.get(user_id)
        except (StoreError, TimeoutError):
            item_ids = []
            warnings = ("recent events are not included: their store is down",)
        known = rows is not None or bool(item_ids)
        if not known:
            warnings = (*warnings, f"unknown user {user_id[:80]!r}")
        recent = [self._catalogue.rows[item_id] for item_id in item_ids if item_id in self._catalogue.rows]
        return History([*(rows or ()), *recent], known, warnings)

    def given(self, item_ids: Sequence[str]) -> History:
        """The history of a request; ids that the catalogue does not know are left out and named."""
        rows, unknown = [], []
        for item_id in item_ids:
            row = self._catalogue.rows.get(item_id)
            if row is None:
                unknown.append(item_id)
            else:
                rows.append(row)
        warnings = (f"unknown items left out of the history: {name_some(unknown)}",) if unknown else ()
        return History(rows, True, warnings)


def name_some(item_ids: Sequence[str], limit: int = 10) -> str:
    """The first few ids, shortened, and how many more there are."""
    unique = list(dict.fromkeys(item_ids))
    shown = ", ".join(item_id if len(item_id) <= 40 else item_id[:40] + "…" for item_id in unique[:limit])
    return shown if len(unique) <= limit else f"{shown} and {len(unique) - limit} more"
