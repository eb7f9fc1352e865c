"""The ledger: every call the simulator got, to be compared with the service's own books."""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from service.simulator.contracts import Allowance, Picture

_KEPT_CALLS = 10_000
_KEPT_PICTURES = 50
_WINDOW = 60.0  # seconds
_REQUEST_LIMIT = 10_000
_TOKEN_LIMIT = 30_000_000


@dataclass(slots=True)
class Call:
    """One call.

    Attributes:
        number: counts from 1 since the start; deleting the ledger does not reset it.
        time: seconds since the epoch when it arrived.
        kind: the form of the prompt: label, paper, caption or chat.
        output_tokens: tokens that the whole answer has, sent or not.
        tokens_sent: tokens written to the socket.
        outcome: ``running``, ``ok``, ``length``, ``rejected`` or ``disconnected``.
        seconds: from arrival to the end; None while it runs.
    """

    number: int
    wire: str
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
    seconds: float | None = None


class Ledger:
    """Calls and the pictures that came with the last of them; used on the event loop only."""

    def __init__(self) -> None:
        self._calls: deque[Call] = deque(maxlen=_KEPT_CALLS)
        self._pictures: OrderedDict[tuple[int, int], Picture] = OrderedDict()
        self._count = 0
        self.in_flight = 0
        self.peak_in_flight = 0
        self._window_start = 0.0
        self._window_requests = 0
        self._window_tokens = 0

    @contextmanager
    def call(self, wire: str) -> Iterator[Call]:
        """Enter a call for as long as it runs."""
        self._count += 1
        call = Call(self._count, wire)
        self._calls.append(call)
        self.in_flight += 1
        self.peak_in_flight = max(self.peak_in_flight, self.in_flight)
        started = time.perf_counter()
        try:
            yield call
        finally:
            self.in_flight -= 1
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

    def spend(self, tokens: int) -> Allowance:
        """Count a request and its tokens against the minute, and say what is left of it."""
        now = time.time()
        if now >= self._window_start + _WINDOW:
            self._window_start, self._window_requests, self._window_tokens = now, 0, 0
        self._window_requests += 1
        self._window_tokens += tokens
        return Allowance(
            request_limit=_REQUEST_LIMIT,
            requests_left=max(0, _REQUEST_LIMIT - self._window_requests),
            token_limit=_TOKEN_LIMIT,
            tokens_left=max(0, _TOKEN_LIMIT - self._window_tokens),
            now=now,
            resets_at=self._window_start + _WINDOW,
        )

    def rows(self) -> list[dict[str, Any]]:
        """All calls, oldest first, running ones included."""
        return [asdict(call) for call in self._calls]

    def clear(self) -> None:
        """Forget calls and pictures; the peak starts again from what is in flight now."""
        self._calls.clear()
        self._pictures.clear()
        self.peak_in_flight = self.in_flight
