"""Opens the store of events in a Redis of its own, and says at the start what would lose events there."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack, suppress

from service.errors import ConfigurationError
from service.metrics import Metrics
from service.settings import Settings
from service.stores.base import StoreError
from service.stores.redis import RedisConnection
from service.stores.redis_server.events import RedisEvents

log = logging.getLogger(__name__)

SLOWEST_ANSWER = 2.0
"""Seconds that the events' Redis has at least: it may wait for its disk before it acknowledges."""

EXPIRY_SECONDS = 60.0
"""Seconds between two looks for events that are older than the retention."""


async def open_redis_events(
    settings: Settings, dataset: str, metrics: Metrics, stack: AsyncExitStack
) -> RedisEvents:
    """Opens the store of a data set's events, to be closed with the stack.

    Raises:
        ConfigurationError: the Redis client does not accept the URL.
    """
    try:
        connection = RedisConnection(
            settings.events_url.get_secret_value(),
            max(SLOWEST_ANSWER, settings.redis_timeout_ms / 1000),
            name="the events' Redis",
            outage="recent events are left out and new ones are refused",
        )
    except ValueError:  # its text may quote a part of the password
        raise ConfigurationError("MSR_EVENTS_URL: Redis' client cannot use it") from None
    stack.push_async_callback(connection.close)
    events = RedisEvents(
        connection,
        dataset,
        max_users=settings.events_max_users,
        max_bytes=settings.events_max_bytes,
        retention=settings.events_retention_s,
        unreadable=metrics.events_unreadable.inc,
    )
    if await events.trouble() is None:
        await _warn(connection)
    if settings.events_retention_s is not None:
        expiring = asyncio.create_task(_expire(events))
        stack.callback(expiring.cancel)
    return events


async def _warn(connection: RedisConnection) -> None:
    """Warns of a server that loses events when it stops or is full, where it tells how it is set."""
    with suppress(StoreError):
        append_only, eviction = await connection.persistence()
        if append_only is False:
            log.warning(
                "the events' Redis has no append-only file: it loses events when it stops; set appendonly yes"
            )
        if eviction not in (None, "noeviction") and not str(eviction).startswith("volatile-"):
            log.warning(
                "the events' Redis drops events when it is full (maxmemory-policy %s): set noeviction",
                eviction,
            )


async def _expire(events: RedisEvents) -> None:
    """Drops events that are older than the retention, now and then."""
    while True:
        with suppress(StoreError):  # logged by the store
            await events.drop_expired()
        await asyncio.sleep(EXPIRY_SECONDS)
