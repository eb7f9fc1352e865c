"""Defines what captioning needs of a vendor's batch API: many calls, answered within a day, at a discount.

A batch is paid for once it is created, and creating it twice pays twice. So every batch carries a token, by
which it is found again when the process ended before it could write the batch's id down.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from service.lvlm.providers.base import Call, Event, FailureKind

CLOCKS_APART = 300.0
"""Seconds by which the vendor's clock may differ from ours, when a batch is found by its creation time."""


@dataclass(frozen=True, slots=True)
class BatchState:
    """The progress of a batch.

    Attributes:
        ended: whether its results can be read.
        requests: number of requests that it holds.
        answered: number of requests that have a result, failures included; 0 until the end at some vendors.
    """

    ended: bool
    requests: int
    answered: int


@dataclass(frozen=True, slots=True)
class BatchResult:
    """The result of one request of a batch.

    Attributes:
        name: name that the request was submitted under.
        events: events as an unbatched call would have yielded them; empty if the request failed.
        failure: kind of failure; None if the request succeeded.
    """

    name: str
    events: tuple[Event, ...] = ()
    failure: FailureKind | None = None


class Batches(Protocol):
    """One vendor's batch API. Every method raises ProviderError for what the vendor refuses or fails at."""

    async def submit(self, calls: Mapping[str, Call], token: str) -> str:
        """Creates a batch and returns the vendor's id for it.

        Args:
            calls: calls by name, each name of at most 64 letters, digits, ``-`` and ``_``.
            token: unique text to find the batch by; every name begins with it.
        """
        ...

    async def created_since(self, at: float, token: str, requests: int) -> list[str]:
        """Returns the ids of batches that may be the one with this token.

        A vendor that shows the token in results alone returns every batch of the same size.

        Args:
            at: time before which the batch was not created, in seconds since the epoch.
            token: token of the batch.
            requests: number of requests that the batch holds.
        """
        ...

    async def state(self, batch: str) -> BatchState:
        """Returns the progress of a batch, by its id."""
        ...

    def results(self, batch: str) -> AsyncIterator[BatchResult]:
        """Yields the results of a batch that has ended, in any order."""
        ...
