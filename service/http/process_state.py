"""Holds what the process around the application tells it, and gives it."""

from __future__ import annotations

from dataclasses import dataclass, field

from service.catalogue.file_copies import FileCopies


@dataclass
class ProcessState:
    """The state of the process that serves the application.

    Attributes:
        draining: whether the process is about to stop, so that a proxy should look elsewhere.
        degraded: names of the parts around the service that are down, such as ``simulator``.
        copies: makes the copies of the bundle's large files; None for copies of this process alone.
    """

    draining: bool = False
    degraded: set[str] = field(default_factory=set)
    copies: FileCopies | None = None
