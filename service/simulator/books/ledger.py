"""The ledger: every call the simulator got, to be compared with the service's own books."""

from __future__ import annotations

import time
from collections import Counter, OrderedDict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from service.simulator.contracts import Picture

_KEPT_CALLS = 10_000
_KEPT_PICTURES = 50


@dataclass(slots=True)
class Call:
    """One call.

    Attributes:
        number: counts from 1 since the start; deleting the ledger does not reset it.
        time: seconds since the epoch when it arrived.
        kind: the form of the prompt: label, paper, caption or chat.
        output_tokens: tokens that the whole answer has, sent or not.
        tokens_sent: tokens written to the socket.
        outcome: ``running``, ``ok``, ``length``, ``rejected``, ``disconnected`` (by the client), ``broken``
            (by a fault of ours) or ``expired`` (in a batch).
        batch: the id of the batch that the request came in; None for a call of its own.
        fault: that the call met; None for a healthy one.
        usage_sent: whether the client was told the whole usage.
        billed_input_tokens: that the vendor would bill, cached ones included.
        cost_usd: None for a model without a price here.
        seconds: from arrival to the end; None while it runs.
    """

    number: int
    wire: str
    batch: str | None = None
    time: float = field(default_factory=time.time)
    model: str | None = None
    strategy: str | None = None
    kind: str | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    image_tokens: int = 0
    pictures: int = 0
    streamed: bool = False
    tokens_sent: int = 0
    outcome: str = "running"
    status: int | None = None
    error: str | None = None
    disconnected: bool = False
    fault: str | None = None
    usage_sent: bool = False
    billed_input_tokens: int = 0
    billed_output_tokens: int = 0
    cached_input_tokens: int = 0
    cost_usd: float | None = 0.0
    seconds: float | None = None


class Ledger:
    """Calls and the pictures that came with the last of them; used on the event loop only."""

    def __init__(self) -> None:
        self._calls: deque[Call] = deque(maxlen=_KEPT_CALLS)
        self._pictures: OrderedDict[tuple[int, int], Picture] = OrderedDict()
        self._count = 0
        self.in_flight = 0
        self.peak_in_flight = 0

    @contextmanager
    def call(self, wire: str, batch: str | None = None) -> Iterator[Call]:
        """Enter a call for as long as it runs; one of a batch is not in flight, since nobody waits for it."""
        self._count += 1
        call = Call(self._count, wire, batch)
        self._calls.append(call)
        self.in_flight += batch is None
        self.peak_in_flight = max(self.peak_in_flight, self.in_flight)
        started = time.perf_counter()
        try:
            yield call
        finally:
            self.in_flight -= batch is None
            call.seconds = time.perf_counter() - started

    def keep(self, call: Call, pictures: tuple[Picture, ...]) -> None:
        """Keep the pictures of a call exactly as they arrived; the oldest make room."""
        for index, picture in enumerate(pictures):
            self._pictures[call.number, index] = picture
        while len(self._pictures) > _KEPT_PICTURES:
            self._pictures.popitem(last=False)

    def picture(self, number: int, index: int) -> Picture | None:
        """A kept picture of a call; None when there is none, or no longer."""
        return self._pictures.get((number, index))

    def summary(self) -> dict[str, Any]:
        """Totals of all calls that the ledger holds."""
        calls = list(self._calls)
        counted = (
            "billed_input_tokens",
            "billed_output_tokens",
            "cached_input_tokens",
            "cost_usd",
        )
        return {
            "calls": len(calls),
            "outcomes": dict(Counter(call.outcome for call in calls)),
            "faults": dict(Counter(call.fault for call in calls if call.fault)),
            "image_tokens": sum(call.image_tokens for call in calls if call.billed_input_tokens),
            **{name: sum(getattr(call, name) or 0 for call in calls) for name in counted},
        }

    def rows(self) -> list[dict[str, Any]]:
        """All calls, oldest first, running ones included."""
        return [asdict(call) for call in self._calls]

    def clear(self) -> None:
        """Forget calls and pictures; the peak starts again from what is in flight now."""
        self._calls.clear()
        self._pictures.clear()
        self.peak_in_flight = self.in_flight
