"""Puts the parts together: the only place that picks classes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from service.bundle import Bundle, open_bundle
from service.candidates import CandidateModel, SequenceModel
from service.errors import ConfigurationError
from service.executor import BoundedExecutor
from service.histories import HistoryReader
from service.metrics import Metrics
from service.recommender import Recommender
from service.settings import Settings
from service.stores.base import Cache, Events, StoreError
from service.stores.memory import MemoryCache, MemoryEvents

logger = logging.getLogger("service")


@dataclass(frozen=True)
class Services:
    """What routes use.

    Attributes:
        events: None when several workers have no store in common.
    """

    bundle: Bundle
    recommender: Recommender
    histories: HistoryReader
    events: Events | None
    metrics: Metrics
    cache: Cache

    async def redis_answers(self) -> bool:
        """Whether the cache is up; always, when it is in memory."""
        try:
            await self.cache.get("health")
        except StoreError:
            return False
        return True
