"""Holds what the process around the application tells its routes."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class ProcessState:
    """The state of the process that serves the application.

    Attributes:
        draining: whether the process is about to stop, so that a proxy should look elsewhere.
        degraded: names of the parts around the service that are down, such as ``simulator``.
    """

    draining: bool = False
    degraded: set[str] = field(default_factory=set)
