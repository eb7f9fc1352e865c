"""Answers the scrapes of all workers with the metrics of all workers."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from service.exposition.shared_exposition import SharedExposition
from service.metrics import ParentMetrics
from service.processes.control_channel import AllMetrics
from service.processes.started_worker import StartedWorker

SNAPSHOT_SECONDS = 1.0
"""Seconds that a scrape waits for the values of a worker; then its last ones count."""


class Scrapes:
    """Asks the workers for their metrics and adds them up, once for all who ask meanwhile.

    Args:
        metrics: metrics of all workers.
        live: running workers, by place.
    """

    def __init__(self, metrics: ParentMetrics, live: Mapping[int, StartedWorker]) -> None:
        self._metrics = metrics
        self._live = live
        self._question = 0
        self._exposition = SharedExposition(self._expose)
        self._answers: set[asyncio.Task[None]] = set()

    def answer(self, asking: StartedWorker) -> None:
        """Sends the exposition to the worker that was scraped."""
        answer = asyncio.create_task(self._answer(asking))
        self._answers.add(answer)
        answer.add_done_callback(self._answers.discard)

    async def _answer(self, asking: StartedWorker) -> None:
        asking.send(AllMetrics(await self._exposition.get()))

    async def _expose(self) -> bytes:
        """Returns the exposition of all workers, with what they have counted until now."""
        self._question += 1
        ready = [process for process in self._live.values() if process.is_ready]
        asked = [asyncio.create_task(process.snapshot(self._question)) for process in ready]
        if asked:
            _, late = await asyncio.wait(asked, timeout=SNAPSHOT_SECONDS)
            for task in late:
                task.cancel()
        return await asyncio.to_thread(self._metrics.text)
