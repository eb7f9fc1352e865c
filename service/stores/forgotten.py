"""Forgets a user: events and cached answers, also those in the memory of other workers."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

from service.stores.base import Cache, StoreError, owner_of
from service.stores.events import Events
from service.stores.worker_stores import Stores

log = logging.getLogger(__name__)

POLL_SECONDS = 1.0
"""Seconds after which a worker with a cache of its own learns that another worker forgot a user."""


async def forget_user(user_id: str, events: Events, stores: Stores) -> bool:
    """Removes all that is stored of a user; returns whether there was anything.

    One store that is down does not keep the others from forgetting.

    Raises:
        StoreError: a store is down; what it holds may still be there.
    """
    there, failure = False, None
    if stores.old_events is not None:  # first: what is in a list may become events
        try:
            there = await stores.old_events.remove(user_id)
        except StoreError as error:
            failure = error
    try:
        there |= await events.forget(user_id)
    except StoreError as error:
        failure = error
    try:
        there |= await stores.cache.forget(owner_of(user_id)) > 0
    except StoreError as error:
        failure = failure or error
    if failure is not None:
        raise failure
    return there


async def follow_forgotten(events: Events, cache: Cache) -> None:
    """Removes the answers of users whom other workers forget from this worker's cache, until cancelled."""
    newest = 0  # from the beginning: a call of this worker may be older than the worker's first look
    while True:
        owners: list[str] = []
        with suppress(StoreError):  # logged by the store
            newest, owners = await events.forgotten_since(newest)
            for owner in owners:
                await cache.forget(owner)
        if not owners:  # else there may be more
            await asyncio.sleep(POLL_SECONDS)
