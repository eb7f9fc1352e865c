"""Opens the store of events that the settings name: a file of this machine, or a Redis of its own."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

from service.data_folder import make_data_folder
from service.metrics import Metrics
from service.settings import Settings
from service.stores.base import StoreError
from service.stores.events import Events
from service.stores.sqlite_events import EventsLimits, SqliteEvents
from service.stores.sqlite_file import events_file, prepare

USAGE_SECONDS = 15.0
"""Seconds between two readings of how full the store is, for the metrics."""


def events_path(settings: Settings, dataset: str) -> Path:
    """Returns the file of a data set's events, in a folder that is made if it is missing.

    Raises:
        ConfigurationError: the folder cannot be made or written.
    """
    return events_file(make_data_folder(settings.data, "events"), dataset)


def check_events(settings: Settings, dataset: str) -> None:
    """Makes the file or moves it to the present schema, and checks it where no other worker has it open.

    Raises:
        ConfigurationError: it cannot be used; the message says what to do.
    """
    if not settings.events_url.get_secret_value():
        prepare(events_path(settings, dataset), check=True)


async def open_events(settings: Settings, dataset: str, metrics: Metrics, stack: AsyncExitStack) -> Events:
    """Opens the store of a data set's events, to be closed with the stack.

    Raises:
        ConfigurationError: it cannot be used; the message says what to do.
    """
    events: Events
    if settings.events_url.get_secret_value():
        # Slow to load, and needed with Redis alone.
        from service.wiring.redis_events import open_redis_events

        events = await open_redis_events(settings, dataset, metrics, stack)
    else:
        events = in_file = SqliteEvents(
            events_path(settings, dataset),
            EventsLimits(settings.events_max_users, settings.events_max_bytes, settings.events_retention_s),
            fsync_seconds=settings.events_fsync_ms / 1000,
            unreadable=metrics.events_unreadable.inc,
        )
        stack.push_async_callback(in_file.close)
    watching = asyncio.create_task(_watch(events, metrics))
    stack.callback(watching.cancel)
    return events


async def _watch(events: Events, metrics: Metrics) -> None:
    """Sets the metrics of how full the store is, at intervals."""
    while True:
        try:
            usage = await events.usage()
        except StoreError:  # logged by the store; the last values stay
            pass
        else:
            metrics.events_users.set(usage.users)
            metrics.events_users_limit.set(usage.max_users)
            metrics.events_bytes.set(usage.bytes)
            metrics.events_bytes_limit.set(usage.max_bytes)
        await asyncio.sleep(USAGE_SECONDS)
