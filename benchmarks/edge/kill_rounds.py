"""Kills processes at random points of a stream of batches, and checks that acknowledged events are kept once.

A writer sends one batch after the other to one user, and each again until it is acknowledged: after a kill
it is not known what became of it. The items of a user's events tell their numbers, so the history that the
service answers must be exactly the list of all acknowledged events, in their order.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import httpx

from benchmarks.errors import BenchmarkError

WRITERS = 4
"""Users whose events are sent at the same time."""

MOST_EVENTS = 1_900
"""Events of one user in one round, so that none is dropped."""

BATCH = (1, 60)
"""Events of one batch, at least and at most."""

KILL_SECONDS = (0.02, 0.6)
"""Seconds from the first batch to the kill, at least and at most."""

AFTER_BATCHES = 5
"""Batches of each writer that must be acknowledged after the kill."""

PATIENCE = 60.0
"""Seconds until a service must answer again after a kill."""


@dataclass
class RoundResult:
    """What one round found.

    Attributes:
        events: acknowledged events.
        again: batches that were sent again, because their answer was lost.
        reads: histories that were read just after an acknowledgement.
        seconds: seconds from the kill to the next acknowledgement.
        faults: sentences about what was not as it must be.
    """

    events: int = 0
    again: int = 0
    reads: int = 0
    seconds: float = 0.0
    faults: list[str] = field(default_factory=list)


class KillRound:
    """One round: writers, a kill, and the check at the end.

    Args:
        number: number of the round, which makes the users' names.
        items: ids of the catalogue's items, in any order.
        url: function that gives the address of the service, which a new start may change.
        kill: function that kills a process, and starts what nothing else starts again. It runs in a thread.
        draw: source of the sizes of batches and the moment of the kill.
    """

    def __init__(
        self,
        number: int,
        items: Sequence[str],
        url: Callable[[], str],
        kill: Callable[[], None],
        draw: random.Random,
    ) -> None:
        self._number = number
        self._items = items
        self._url = url
        self._kill = kill
        self._draw = draw
        self._killed: float | None = None  # monotonic seconds
        self._answered: float | None = None
        self._back = False  # whether ``kill`` has returned
        self._result = RoundResult()

    async def run(self) -> RoundResult:
        """Sends, kills and checks."""
        # A connection for each request, so that each worker answers some.
        limits = httpx.Limits(max_keepalive_connections=0)
        async with httpx.AsyncClient(limits=limits, timeout=10, trust_env=False) as http:
            killing = asyncio.create_task(self._kill_later())
            users = [f"kill-{self._number}-{writer}" for writer in range(WRITERS)]
            counts = await asyncio.gather(*(self._write(http, user_id) for user_id in users))
            await killing
            for user_id, count in zip(users, counts, strict=True):
                self._compare(await self._history(http, user_id), count, f"{user_id} at the end")
        self._result.events = sum(counts)
        if self._killed is not None and self._answered is not None:
            self._result.seconds = self._answered - self._killed
        return self._result

    async def _kill_later(self) -> None:
        await asyncio.sleep(self._draw.uniform(*KILL_SECONDS))
        self._killed = time.monotonic()
        try:
            await asyncio.to_thread(self._kill)
        finally:  # also where it fails: the writers end, and then the failure is raised
            self._back = True

    async def _write(self, http: httpx.AsyncClient, user_id: str) -> int:
        """Sends batches until some were acknowledged after the kill; returns how many events they hold."""
        count = after = 0
        while after < AFTER_BATCHES and count < MOST_EVENTS:
            size = min(self._draw.randint(*BATCH), MOST_EVENTS - count)
            if not self._back and count > MOST_EVENTS // 2:
                await asyncio.sleep(0.01)  # keeps some for after the kill
                continue
            batch = [
                {"user_id": user_id, "item_id": self._item(n), "timestamp": n + 1, "event_id": str(n)}
                for n in range(count, count + size)
            ]
            began_after = self._back
            await self._until_acknowledged(http, batch)
            count += size
            if began_after and self._answered is None:
                self._answered = time.monotonic()
            after += began_after
            self._compare(await self._history(http, user_id), count, f"{user_id} after {count} events")
            self._result.reads += 1
        return count

    async def _until_acknowledged(self, http: httpx.AsyncClient, batch: Sequence[object]) -> None:
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            try:
                answer = await http.post(f"{self._url()}/events", json={"events": batch})
            except httpx.TransportError:
                answer = None
            if answer is not None and answer.status_code == 200:
                counts = answer.json()
                if counts["stored"] + counts["repeated"] != len(batch) or counts["dropped"]:
                    self._result.faults.append(f"{len(batch)} events were answered with {counts}")
                return
            if answer is not None and answer.status_code != 503:
                self._result.faults.append(f"a batch was answered with {answer.status_code}")
            self._result.again += 1
            await asyncio.sleep(0.05)
        raise BenchmarkError(f"no batch was acknowledged for {PATIENCE:.0f} s")

    async def _history(self, http: httpx.AsyncClient, user_id: str) -> list[str]:
        """Reads a history, as often as it takes while processes start; one that is read counts."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            try:
                answer = await http.get(f"{self._url()}/users/{user_id}/history")
            except httpx.TransportError:
                await asyncio.sleep(0.05)
                continue
            if answer.status_code == 200:
                # A store that does not answer is told by a warning; the next read must have it all.
                if not answer.json()["warnings"]:
                    return [item["item_id"] for item in answer.json()["items"]]
            elif answer.status_code == 404:
                return []
            await asyncio.sleep(0.05)
        raise BenchmarkError(f"no history was answered for {PATIENCE:.0f} s")

    def _compare(self, found: Sequence[str], count: int, where: str) -> None:
        wanted = [self._item(n) for n in range(count)]
        if list(found) != wanted:
            self._result.faults.append(f"{where}: {len(found)} events, or in another order")

    def _item(self, number: int) -> str:
        return self._items[number % len(self._items)]
