"""Reads processor time, memory and open files of processes from ``/proc``, as ``process_*`` metrics."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Literal

from prometheus_client import ProcessCollector

from service.exposition.families import Definition, Family

LABEL = "worker"
"""Label that says which process a value is of: a worker's number from 0, or ``parent``."""


def process_families(processes: Mapping[str, int]) -> list[Family]:
    """Returns the metrics of processes, with the label ``worker``.

    A process that has ended has none. Systems without ``/proc`` have none at all.

    Args:
        processes: id of each process by its value of the label.
    """
    families: dict[str, Family] = {}
    for worker, pid in processes.items():
        try:
            found = list(_collector(pid).collect())
        except (OSError, ValueError):  # ended while it was read, or a limit that is no number
            continue
        for metric in found:
            kind: Literal["counter", "gauge"] = "counter" if metric.type == "counter" else "gauge"
            definition = Definition(metric.name, kind, "sum", metric.documentation, (LABEL,))
            family = families.setdefault(metric.name, Family(definition, {}))
            family.series[(worker,)] = [metric.samples[0].value]
    return list(families.values())


@lru_cache(maxsize=64)  # making one reads the time of the machine's start
def _collector(pid: int) -> ProcessCollector:
    return ProcessCollector(pid=lambda: pid, registry=None)
