"""Keeps the ledger, one entry per call that the simulator received, to compare the service's bills with."""

from __future__ import annotations

import time
from collections import Counter, OrderedDict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from service.simulator.contracts import Picture

_MAX_ENTRIES = 10_000  # beyond, the oldest entry is dropped
_MAX_PICTURES = 50  # beyond, the oldest picture is dropped


@dataclass(slots=True)
class LedgerEntry:
    """One call; its fields are the JSON of ``GET /ledger``.

    Attributes:
        number: number of the call since the start, from 1; ``DELETE /ledger`` does not reset it.
        wire: name of the wire format, ``openai`` or ``anthropic``.
        batch: id of the batch that the request came in; None for a call that is not in a batch.
        time: time of its arrival in seconds since the epoch.
        model: model that was asked for; None when the request could not be read.
        strategy: strategy that the request's metadata names.
        kind: form of the prompt: ``label``, ``paper``, ``caption`` or ``chat``.
        input_tokens: tokens of texts and pictures.
        output_tokens: tokens of the whole answer, sent or not.
        image_tokens: input tokens of the pictures alone.
        pictures: number of pictures.
        streamed: whether a stream was asked for.
        tokens_sent: tokens written to the socket.
        outcome: ``running``, ``ok``, ``length``, ``rejected``, ``disconnected`` (by the client), ``broken``
            (by an injected fault) or ``expired`` (in a batch).
        status: HTTP status; None while it runs and for a call that had no response.
        error: message of the refusal; None for a call that was not refused.
        disconnected: whether the client left before the end.
        fault: name of the fault that the call met; None for a healthy one.
        usage_sent: whether the client received the whole usage.
        billed_input_tokens: input tokens that the vendor would bill, cached ones included.
        billed_output_tokens: output tokens that the vendor would bill.
        cached_input_tokens: input tokens billed at the price of the prompt cache.
        cost_usd: price in US dollars; None for a model without a price in ``prices.toml``.
        seconds: seconds from its arrival to its end; None while it runs.
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
    """Keeps the entries of calls and the last pictures; used on the event loop only.

    Attributes:
        in_flight: number of single calls under way.
        peak_in_flight: highest number of them since the start or the last ``clear``.
    """

    def __init__(self) -> None:
        self._calls: deque[LedgerEntry] = deque(maxlen=_MAX_ENTRIES)
        self._pictures: OrderedDict[tuple[int, int], Picture] = OrderedDict()
        self._count = 0
        self.in_flight = 0
        self.peak_in_flight = 0

    @contextmanager
    def record(self, wire: str, batch: str | None = None) -> Iterator[LedgerEntry]:
        """Enters a call, and notes its end when the context ends. A call of a batch is not in flight."""
        self._count += 1
        call = LedgerEntry(self._count, wire, batch)
        self._calls.append(call)
        self.in_flight += batch is None
        self.peak_in_flight = max(self.peak_in_flight, self.in_flight)
        # time.time() may jump; durations take the monotonic clock.
        started = time.perf_counter()
        try:
            yield call
        finally:
            self.in_flight -= batch is None
            call.seconds = time.perf_counter() - started

    def keep_pictures(self, call: LedgerEntry, pictures: tuple[Picture, ...]) -> None:
        """Stores the pictures of a call as they arrived; drops the oldest beyond ``_MAX_PICTURES``."""
        for index, picture in enumerate(pictures):
            self._pictures[call.number, index] = picture
        while len(self._pictures) > _MAX_PICTURES:
            self._pictures.popitem(last=False)

    def picture(self, number: int, index: int) -> Picture | None:
        """Finds a kept picture of a call; None when there is none, or no longer."""
        return self._pictures.get((number, index))

    def summary(self) -> dict[str, Any]:
        """Sums up all calls that the ledger holds."""
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
        """Lists all calls as JSON, oldest first, running ones included."""
        return [asdict(call) for call in self._calls]

    def clear(self) -> None:
        """Forgets calls and pictures; the peak starts again from the calls in flight now."""
        self._calls.clear()
        self._pictures.clear()
        self.peak_in_flight = self.in_flight
