"""Answers kept for the next visit. A broken cache is a miss and a counter, never an error."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from service.lvlm.answers import Answer
from service.lvlm.contracts import Outcome, Shown
from service.metrics import Metrics
from service.stores.base import Cache, StoreError

log = logging.getLogger(__name__)

CACHE = "answers"
_PREFIX = "answer:1:"  # the number changes with the layout of the record


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """A good answer with what was shown to get it.

    Attributes:
        answer: its order refers to the pool as shown.
    """

    answer: Answer
    outcome: Outcome
    shown: Shown
    simulated: bool


class AnswerCache:
    """Good answers by everything that decides them."""

    def __init__(self, cache: Cache, ttl: float, metrics: Metrics) -> None:
        self._cache = cache
        self._ttl = ttl
        self._metrics = metrics

    async def get(self, key: str, pool_size: int) -> StoredAnswer | None:
        """Return the answer under a key if there is one that fits a pool of this size."""
        try:
            value = await self._cache.get(key)
            stored = None if value is None else _load(value, pool_size)
        except (StoreError, ValueError) as error:
            log.warning("the answer cache cannot be read: %s", error)
            self._count("error")
            return None
        self._count("miss" if stored is None else "hit")
        return stored

    async def put(self, key: str, stored: StoredAnswer) -> None:
        """Keep an answer."""
        try:
            await self._cache.set(key, json.dumps(asdict(stored)).encode(), self._ttl)
        except StoreError as error:
            log.warning("the answer cache cannot be written: %s", error)
            self._count("error")
        else:
            self._count("stored")

    def _count(self, result: str) -> None:
        self._metrics.cache_events.labels(CACHE, result).inc()


def answer_key(facts: Mapping[str, Any]) -> str:
    """The key for everything that changes the answer: SHA-256 over its canonical JSON."""
    canonical = json.dumps(facts, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return _PREFIX + hashlib.sha256(canonical.encode()).hexdigest()


def _load(value: bytes, pool_size: int) -> StoredAnswer:
    """Read a record back.

    Raises:
        ValueError: it is damaged or made for another pool.
    """
    try:
        record = json.loads(value)
        order = tuple(record["answer"].pop("order"))
        stored = StoredAnswer(
            answer=Answer(order=order, **record["answer"]),
            outcome=Outcome(record["outcome"]),
            shown=Shown(**record["shown"]),
            simulated=bool(record["simulated"]),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"a stored answer is damaged: {error!r}") from error
    if len(set(order)) != len(order) or not set(order) <= set(range(pool_size)):
        raise ValueError("a stored answer does not fit the pool")
    return stored
