"""Answers kept for the next equal request. A broken cache is a miss and a counter, never an error.

A good answer is fresh for a while; after that it is still given, while a new one is fetched (RFC 5861,
stale-while-revalidate). An unusable one is remembered for a moment, so that not every request pays for it
anew.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from service.lvlm.contracts import JudgedAnswer, Outcome, ParsedAnswer, Responder, Shown
from service.metrics import Metrics
from service.outages import Outage
from service.stores.base import Cache, StoreError

log = logging.getLogger(__name__)

CACHE = "answers"
"""The label of this cache in the metrics."""

_PREFIX = "answer:2:"  # the number changes with the layout of the record


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """An answer and its age.

    Attributes:
        answer: the answer; its order refers to the pool as shown.
        at: seconds since the epoch when it was stored.
    """

    answer: JudgedAnswer
    at: float = field(default_factory=time.time)

    @property
    def good(self) -> bool:
        """Whether it is a complete answer."""
        return self.answer.outcome.good


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """How long answers are kept, in seconds.

    Attributes:
        fresh: seconds for which a good answer is given as it is.
        stale: seconds after that for which it is given while a new one is fetched.
        negative: seconds for which an unusable one is remembered; 0 for not at all.
    """

    fresh: float = 86_400
    stale: float = 86_400
    negative: float = 60


class AnswerCache:
    """Keeps answers by everything that decides them (`answer_key`)."""

    def __init__(self, cache: Cache, lifetimes: Lifetimes, metrics: Metrics) -> None:
        self._cache = cache
        self._lifetimes = lifetimes
        self._metrics = metrics
        self._damage = Outage("the answer cache", log)

    async def get(self, key: str, pool_size: int) -> StoredAnswer | None:
        """Returns the answer under a key if there is one that fits a pool of this size, and counts it."""
        try:
            stored = await self._read(key, pool_size)
        except StoreError:
            self.count("error")
            return None
        self.count("miss" if stored is None else self._kind(stored))
        return stored

    async def look(self, key: str, pool_size: int) -> StoredAnswer | None:
        """Returns a fresh answer to a request that waits for one; counts nothing, and a stale one is none."""
        try:
            stored = await self._read(key, pool_size)
        except StoreError:
            return None
        return None if stored is None or self.stale(stored) else stored

    def stale(self, stored: StoredAnswer) -> bool:
        """Tells whether a new answer should be fetched."""
        return stored.good and time.time() - stored.at > self._lifetimes.fresh

    async def put(self, key: str, stored: StoredAnswer, *, briefly: bool = False) -> None:
        """Keeps an answer; an unusable one, or one that is second best, for a moment."""
        lifetimes = self._lifetimes
        long = stored.good and not briefly
        ttl = lifetimes.fresh + lifetimes.stale if long else lifetimes.negative
        # A lifetime of 0 turns the remembering of unusable answers off.
        if ttl <= 0:
            return
        try:
            await self._cache.set(key, dump(stored), ttl)
        except StoreError:
            self.count("error")
        else:
            self.count("stored" if stored.good else "stored_negative")

    async def make_do(self, key: str, stored: StoredAnswer | None, pool_size: int) -> None:
        """Bridges the time to the next try, now that no whole answer of the model itself came.

        A good answer that is there is worth more than what came; a stale one is given for a moment longer
        before the next try to renew it (RFC 5861, stale-if-error). Otherwise what came is kept briefly.

        Args:
            key: key of the answer that was wanted.
            stored: what came instead: unusable, cut off, or another model's; None for nothing.
            pool_size: number of items in the pool that it is about.
        """
        try:
            old = await self._read(key, pool_size)
        except StoreError:
            return
        if old is not None and old.good:
            if self.stale(old):
                # Dated so that it becomes stale again when an unusable answer would be forgotten.
                at = time.time() - self._lifetimes.fresh + self._lifetimes.negative
                await self.put(key, replace(old, at=at))
        elif stored is not None:
            await self.put(key, stored, briefly=True)

    def count(self, result: str) -> None:
        """Counts an event of this cache."""
        self._metrics.cache_events.labels(CACHE, result).inc()

    async def _read(self, key: str, pool_size: int) -> StoredAnswer | None:
        value = await self._cache.get(key)
        try:
            return None if value is None else load(value, pool_size)
        except ValueError as error:
            self._damage.failed("an answer in the cache cannot be read: %s", error)
            self.count("error")
            return None

    def _kind(self, stored: StoredAnswer) -> str:
        if not stored.good:
            return "negative"
        return "stale" if self.stale(stored) else "hit"


def answer_key(facts: Mapping[str, Any]) -> str:
    """Returns the key for everything that changes an answer: SHA-256 over its canonical JSON."""
    # Sorted, compact and ASCII: equal facts give equal bytes in every worker and version of Python.
    canonical = json.dumps(facts, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return _PREFIX + hashlib.sha256(canonical.encode()).hexdigest()


# The layout is flat and older than the records that it is made of. Workers of two versions may share a store,
# so each must be able to read what the other writes; another layout needs another number in ``_PREFIX``.


def dump(stored: StoredAnswer) -> bytes:
    """Writes an answer down as JSON."""
    answer, responder = stored.answer, stored.answer.responder
    record = {
        "answer": asdict(answer.parsed),
        "outcome": answer.outcome,
        "shown": asdict(answer.shown or Shown()),
        "simulated": responder.simulated,
        "provider": responder.provider,
        "model": responder.model,
        "blind": responder.blind,
        "at": stored.at,
    }
    return json.dumps(record).encode()


def load(value: bytes, pool_size: int) -> StoredAnswer:
    """Reads an answer back.

    Raises:
        ValueError: it is damaged or made for another pool.
    """
    try:
        record = json.loads(value)
        order = tuple(record["answer"].pop("order"))
        answer = JudgedAnswer(
            ParsedAnswer(order, **record["answer"]),
            Outcome(record["outcome"]),
            Shown(**record["shown"]),
            Responder(
                str(record["provider"]),
                str(record["model"]),
                simulated=bool(record["simulated"]),
                blind=bool(record.get("blind", False)),
            ),
        )
        stored = StoredAnswer(answer, float(record["at"]))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"a stored answer is damaged: {error!r}") from error
    # The key holds the pool, so that this is a damaged record or another program's.
    if len(set(order)) != len(order) or not set(order) <= set(range(pool_size)):
        raise ValueError("a stored answer does not fit the pool")
    return stored
