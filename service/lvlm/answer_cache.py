"""Caches answers for equal requests. A cache that fails is a miss and counted, never an error.

A good answer is fresh for some time; after that it is still given for a while, and a new one is fetched (RFC
5861, stale-while-revalidate). An unusable answer is cached briefly, so that not every equal request pays for
another one.
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
"""Label of this cache in the metrics."""

_PREFIX = "answer:4:"  # of all keys; the number changes with the layout of the record


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """An answer and the time when it was stored.

    Attributes:
        answer: answer; its order has positions in the pool as the prompt showed it.
        at: time when it was stored, in seconds since the epoch.
        owner: user whom it is about, as ``owner_of`` names users, with whom it is forgotten; None for none.
    """

    answer: JudgedAnswer
    at: float = field(default_factory=time.time)
    owner: str | None = None

    @property
    def good(self) -> bool:
        """Whether a whole answer could be used."""
        return self.answer.outcome.good


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """How long answers are cached, in seconds; all at least 0.

    Attributes:
        fresh: seconds for which a good answer is given without a new call.
        stale: seconds after those for which it is given while a new one is fetched.
        negative: seconds for which an unusable or provisional answer is cached; 0 for not at all.
    """

    fresh: float = 86_400
    stale: float = 86_400
    negative: float = 60


class AnswerCache:
    """Caches answers under a key of everything that decides them (``answer_key``).

    Args:
        cache: store of the records; workers may share it.
        lifetimes: seconds for which answers are cached.
        metrics: counters of hits, misses and errors.
    """

    def __init__(self, cache: Cache, lifetimes: Lifetimes, metrics: Metrics) -> None:
        self._cache = cache
        self._lifetimes = lifetimes
        self._metrics = metrics
        self._damage = Outage("the answer cache", log)

    async def get(self, key: str, pool_size: int) -> StoredAnswer | None:
        """Returns the answer under a key, fresh or stale, and counts the result; None for a miss.

        Args:
            key: key of the answer.
            pool_size: number of items in the pool; a record that does not fit it counts as damaged.
        """
        try:
            stored = await self._read(key, pool_size)
        except StoreError:
            self.count("error")
            return None
        self.count("miss" if stored is None else self._kind(stored))
        return stored

    async def find_fresh(self, key: str, pool_size: int) -> StoredAnswer | None:
        """Returns a fresh answer under a key, without counting; None if there is none, or a stale one.

        For a request that waits for another worker's answer and asks again and again.
        """
        try:
            stored = await self._read(key, pool_size)
        except StoreError:
            return None
        return None if stored is None or self.stale(stored) else stored

    def stale(self, stored: StoredAnswer) -> bool:
        """Tells whether a good answer is no longer fresh, so that a new one should be fetched."""
        return stored.good and time.time() - stored.at > self._lifetimes.fresh

    async def put(self, key: str, stored: StoredAnswer, *, briefly: bool = False) -> None:
        """Stores an answer, an unusable one for ``Lifetimes.negative`` alone.

        Args:
            key: key of the answer.
            stored: answer to store.
            briefly: whether to store a good answer no longer than an unusable one.
        """
        lifetimes = self._lifetimes
        long = stored.good and not briefly
        ttl = lifetimes.fresh + lifetimes.stale if long else lifetimes.negative
        # A lifetime of 0 means that unusable answers are not cached.
        if ttl <= 0:
            return
        try:
            await self._cache.set(key, dump(stored), ttl, stored.owner)
        except StoreError:
            self.count("error")
        else:
            self.count("stored" if stored.good else "stored_negative")

    async def put_provisional(self, key: str, stored: StoredAnswer | None, pool_size: int) -> None:
        """Stores an answer until the next call, after a call that gave no whole answer of the model asked.

        A good answer that is already stored stays; if it is stale, the next call to renew it is put off for
        ``Lifetimes.negative`` seconds (RFC 5861, stale-if-error). Otherwise the new answer is stored briefly.

        Args:
            key: key of the answer that was wanted.
            stored: answer that came instead: unusable, cut off, or of another model; None for none.
            pool_size: number of items in the pool.
        """
        try:
            old = await self._read(key, pool_size)
        except StoreError:
            return
        if old is not None and old.good:
            if self.stale(old):
                # Dated back, so that it becomes stale again when an unusable answer would expire.
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
    """Returns the key for the facts that decide an answer: a SHA-256 over their canonical JSON."""
    # Sorted, compact and ASCII: equal facts give equal bytes in every worker and version of Python.
    canonical = json.dumps(facts, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return _PREFIX + hashlib.sha256(canonical.encode()).hexdigest()


# The layout of a record is flat, unlike JudgedAnswer. It stays so because workers of two versions of the
# service may share a store and read each other's records; another layout needs another number in _PREFIX.


def dump(stored: StoredAnswer) -> bytes:
    """Encodes an answer as JSON."""
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
        "owner": stored.owner,
    }
    return json.dumps(record).encode()


def load(value: bytes, pool_size: int) -> StoredAnswer:
    """Decodes an answer.

    Args:
        value: record as ``dump`` wrote it.
        pool_size: number of items in the pool.

    Raises:
        ValueError: the record is damaged, or made for another pool.
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
        owner = record.get("owner")
        stored = StoredAnswer(answer, float(record["at"]), None if owner is None else str(owner))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"a stored answer is damaged: {error!r}") from error
    # The key depends on the pool, so that a misfit is a damaged record or one of another program.
    if len(set(order)) != len(order) or not set(order) <= set(range(pool_size)):
        raise ValueError("a stored answer does not fit the pool")
    return stored
