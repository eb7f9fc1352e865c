"""Starts the requests of all clients in turn, so that many of one client do not delay the one of another."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable

STARTS_PER_PASS = 1
"""Requests that are started in one pass of the event loop; all other clients wait until it has ended."""

Start = Callable[[], None]


class RequestTurns:
    """The requests of a worker that are not started yet, by client; used by its event loop alone."""

    def __init__(self) -> None:
        self._room = STARTS_PER_PASS  # starts left in this pass
        self._waiting: OrderedDict[str, deque[Start]] = OrderedDict()  # whose turn is next comes first
        self._next_pass: asyncio.Handle | None = None

    def take(self, client: str, start: Start) -> None:
        """Starts a request at once, or when it is its client's turn.

        Args:
            client: what counts as one client, such as its address.
            start: function that starts the request.
        """
        if self._room and not self._waiting:
            self._room -= 1
            start()
        else:
            self._waiting.setdefault(client, deque()).append(start)
        if self._next_pass is None:
            self._next_pass = asyncio.get_running_loop().call_soon(self._pass)

    def _pass(self) -> None:
        self._room = STARTS_PER_PASS
        while self._room and self._waiting:
            client, requests = self._waiting.popitem(last=False)
            start = requests.popleft()
            if requests:
                self._waiting[client] = requests  # behind all others
            self._room -= 1
            start()
        busy = self._room < STARTS_PER_PASS
        self._next_pass = asyncio.get_running_loop().call_soon(self._pass) if busy else None
