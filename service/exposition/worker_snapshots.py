"""Keeps the latest metrics of every worker process, and adds them up."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

from service.exposition.families import MERGES, Family, Series, definitions, merge
from service.exposition.snapshots import read_snapshot


@dataclass(slots=True)
class _Worker:
    number: int
    series: list[Series] = field(default_factory=list)  # none until the first snapshot


class WorkerSnapshots:
    """The metrics of all workers, live ones and those that have ended.

    What a worker counted stays when it ends, so that no counter goes down; its gauges go. May be read in a
    thread while another one updates it.

    Args:
        families: metrics that every worker has; what is counted in them counts too.
    """

    def __init__(self, families: Sequence[Family]) -> None:
        self._definitions = definitions(families)
        self._ended = self._counted([family.series for family in families])
        self._shown: list[Series] = [{} for _ in families]
        self._live: dict[int, _Worker] = {}
        self._lock = threading.Lock()

    def started(self, number: int, pid: int) -> None:
        """Adds a worker; one that takes another's place has its number."""
        self.ended(pid)  # of an earlier process of this id
        with self._lock:
            self._live[pid] = _Worker(number)

    def update(self, pid: int, snapshot: bytes) -> None:
        """Replaces the metrics of a worker; of one that is not live they are ignored.

        Raises:
            SnapshotError: the snapshot is damaged or of other metrics; the one before stays.
        """
        series = read_snapshot(snapshot, self._definitions)
        with self._lock:
            if worker := self._live.get(pid):
                worker.series = series

    def ended(self, pid: int) -> None:
        """Removes a worker, if it is live: what it counted stays."""
        with self._lock:
            worker = self._live.get(pid)
            if worker is None:
                return
            if worker.series:
                self._ended = self._merged([self._ended, self._counted(worker.series)])
            del self._live[pid]

    @property
    def processes(self) -> dict[str, int]:
        """Id of each live worker's process, by the worker's number as a label has it."""
        with self._lock:
            live = sorted((worker.number, pid) for pid, worker in self._live.items())
        return {str(number): pid for number, pid in live}

    def merged(self) -> list[Family]:
        """Returns the metrics of all workers together; no counter is lower than at the call before."""
        with self._lock:
            parts = [self._ended, *(worker.series for worker in self._live.values() if worker.series)]
            merged = self._merged(parts)
            # Sums of floats depend on their order, which changes when a worker ends. For Prometheus a counter
            # that goes down, be it by its last bit, has begun again from nothing.
            raised = zip(self._shown, self._counted(merged), strict=True)
            self._shown = [merge(MERGES["max"], pair) for pair in raised]
            return [
                Family(definition, series if definition.kind == "gauge" else shown)
                for definition, series, shown in zip(self._definitions, merged, self._shown, strict=True)
            ]

    def _counted(self, families: Sequence[Series]) -> list[Series]:
        """Returns the series without those of gauges."""
        pairs = zip(self._definitions, families, strict=True)
        return [{} if definition.kind == "gauge" else series for definition, series in pairs]

    def _merged(self, parts: Sequence[Sequence[Series]]) -> list[Series]:
        return [
            merge(MERGES[definition.merge], (part[at] for part in parts))
            for at, definition in enumerate(self._definitions)
        ]
