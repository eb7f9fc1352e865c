"""Limits what one client may ask for in a minute, over all workers.

A worker takes permits from the shared count in blocks, and gives them out from its own memory: most requests
ask no store. The blocks of all workers together are at most 1 % of the limit, by which it may be reached too
early. A limit under 200 is exact, since a block is one permit there.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from starlette.types import Scope

from service.errors import OverloadedError
from service.metrics import Metrics
from service.stores.base import StoreError
from service.stores.client_rates import MAX_CLIENTS, WINDOW, MemoryRates, Rates
from service.web_addresses import network_of

OWN_PART_SECONDS = 5.0
"""Seconds after a failure of the shared count in which it is not asked: few requests wait for a slow one."""


class _Permits:
    """Permits of one client that this worker took and has not given out."""

    __slots__ = ("block", "left", "lock", "refused_until", "until")

    def __init__(self, block: int) -> None:
        self.block = block  # size of the next block
        self.left = 0
        self.until = 0.0  # clock's seconds at which those left are too old
        self.refused_until = 0.0
        self.lock = asyncio.Lock()  # one request at a time takes the next block


class ClientLimit:
    """One limit on what each client may ask for in a minute.

    Args:
        name: name in the metric and in the store.
        per_minute: permits of one client per minute over all workers, at least 1.
        what: what a permit is for, for the sentence of a refusal.
        variable: setting that holds the limit, for the same sentence.
        workers: number of workers of this service; without a shared count each has its part of the limit.
        shared: count of all workers; None without a common store.
        metrics: metrics that count refusals.
        clock: monotonic clock in seconds.
    """

    def __init__(
        self,
        name: str,
        per_minute: int,
        *,
        what: str,
        variable: str,
        workers: int,
        shared: Rates | None,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._limit = per_minute
        self._part = max(1, per_minute // workers)  # of this worker, while there is no shared count
        self._what = what
        self._variable = variable
        self._block = max(1, per_minute // (100 * workers))
        self._shared = shared
        self._own = MemoryRates(clock)
        self._own_until = 0.0  # clock's seconds until which the shared count is not asked
        self._clients: OrderedDict[str, _Permits] = OrderedDict()  # the one silent longest first
        self._metrics = metrics
        self._clock = clock

    def take_held(self, client: str) -> bool:
        """Gives out a permit that this worker holds; returns False if it holds none."""
        permits = self._clients.get(client)
        if permits is None or not permits.left or self._clock() >= permits.until:
            return False
        permits.left -= 1
        return True

    async def take(self, client: str) -> None:
        """Gives out a permit, from the shared count if this worker holds none.

        Raises:
            OverloadedError: the client has reached the limit; the error says when it may ask again.
        """
        if self.take_held(client):
            return
        permits = self._permits(client)
        # Asked without waiting: a client that was refused and goes on costs no store anything.
        if self._clock() >= permits.refused_until:
            async with permits.lock:
                # The request before this one may have brought permits, or been refused.
                if self.take_held(client):
                    return
                if self._clock() >= permits.refused_until and await self._renew(client, permits):
                    permits.left -= 1
                    return
        self._metrics.client_limited.labels(self._name).inc()
        # There is room after the wait, not yet at its end.
        seconds = 1 + max(0, math.floor(permits.refused_until - self._clock()))
        raise OverloadedError(
            f"one client may send {self._limit} {self._what} a minute ({self._variable}); send the next one "
            f"in {seconds} s",
            retry_after=seconds,
        )

    async def _renew(self, client: str, permits: _Permits) -> bool:
        """Takes the next block, a smaller one near the limit; returns False if there is not one permit."""
        amount = permits.block
        while not await self._count(client, amount):
            if amount == 1:
                permits.refused_until = self._clock() + await self._wait(client)
                return False
            amount //= 2
        permits.left, permits.until = amount, self._clock() + WINDOW
        permits.block = min(self._block, 2 * amount)
        return True

    async def _count(self, client: str, amount: int) -> bool:
        if shared := self._reachable():
            try:
                if not await shared.take(f"{self._name}:{client}", self._limit, amount):
                    return False
                self._own.add(client, amount)  # for while the shared count is down
                return True
            except StoreError:
                self._own_until = self._clock() + OWN_PART_SECONDS
        if not self._own.can_take(client, self._part, amount):
            return False
        self._own.add(client, amount)
        return True

    async def _wait(self, client: str) -> float:
        if shared := self._reachable():
            try:
                return await shared.wait(f"{self._name}:{client}", self._limit)
            except StoreError:
                self._own_until = self._clock() + OWN_PART_SECONDS
        return self._own.wait(client, self._part)

    def _reachable(self) -> Rates | None:
        return self._shared if self._clock() >= self._own_until else None

    def _permits(self, client: str) -> _Permits:
        permits = self._clients.get(client)
        if permits is None:
            permits = self._clients[client] = _Permits(self._block)
            if len(self._clients) > MAX_CLIENTS:
                self._clients.popitem(last=False)
        self._clients.move_to_end(client)
        return permits


@dataclass(frozen=True)
class ClientLimits:
    """The limits of one worker on each client.

    Attributes:
        requests: limit on requests; None for none.
        lvlm_calls: limit on recommendations whose strategy asks an LVLM; None for none.
    """

    requests: ClientLimit | None = None
    lvlm_calls: ClientLimit | None = None

    @classmethod
    def of(
        cls, requests: int, lvlm_calls: int, *, workers: int, shared: Rates | None, metrics: Metrics
    ) -> ClientLimits:
        """Returns the limits for these numbers per minute, of which 0 means no limit; see ``ClientLimit``."""

        def limit(name: str, per_minute: int, what: str) -> ClientLimit | None:
            if not per_minute:
                return None
            variable = f"MSR_CLIENT_{name.upper()}_PER_MINUTE"
            return ClientLimit(
                name,
                per_minute,
                what=what,
                variable=variable,
                workers=workers,
                shared=shared,
                metrics=metrics,
            )

        return cls(
            limit("requests", requests, "requests"),
            limit("lvlm_calls", lvlm_calls, "requests of strategies that ask an LVLM"),
        )


def client_of(scope: Scope) -> str:
    """Returns the name under which a request's client is counted.

    That is the name of the key that it showed (``key`` in the request's state, set by ``ApiKeyAuth``; never
    the key itself), else its address or network.
    """
    key = scope["state"].get("key")
    if key:
        return f"key:{key}"
    client = scope.get("client")
    return network_of(client[0]) if client else "local"  # a Unix socket's clients have no address
