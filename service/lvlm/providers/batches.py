"""What captioning asks of a vendor's batch API: many calls at once, answered within a day, for less.

A batch is paid for from the moment it is created, and creating one twice pays twice; so every batch carries a
token, by which a batch is found again when the process died before it could note the batch's id.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from service.lvlm.providers.base import Call, Event, FailureKind

CLOCKS_APART = 300.0
"""Seconds by which the vendor's clock and ours may differ when a batch is looked for."""


@dataclass(frozen=True, slots=True)
class BatchState:
    """How far a batch is.

    Attributes:
        ended: its results can be read.
        requests: that it holds.
        answered: of them; some vendors say 0 until the end.
    """

    ended: bool
    requests: int
    answered: int


@dataclass(frozen=True, slots=True)
class BatchResult:
    """What came of one request of a batch.

    Attributes:
        name: under which it was handed in.
        events: as a plain call would have brought them; none if it failed.
        failure: why it failed; None if it did not.
    """

    name: str
    events: tuple[Event, ...] = ()
    failure: FailureKind | None = None


class Batches(Protocol):
    """One vendor's batch API. Every method raises ProviderError for what the vendor refuses or fails at."""

    async def submit(self, calls: Mapping[str, Call], token: str) -> str:
        """Create a batch and return its id.

        Args:
            calls: by name: up to 64 letters, digits, ``-`` and ``_``.
            token: to find it by; every name begins with it.
        """
        ...

    async def created_since(self, at: float, token: str, requests: int) -> list[str]:
        """Ids of batches that may be the one with this token: some vendors show it in results alone.

        Args:
            at: seconds since the epoch.
            token: of the batch.
            requests: that it holds.
        """
        ...

    async def state(self, batch: str) -> BatchState:
        """How far it is."""
        ...

    def results(self, batch: str) -> AsyncIterator[BatchResult]:
        """What came of its requests, in any order, once it has ended."""
        ...
