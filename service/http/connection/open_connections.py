"""Keeps the connections of a worker: how many there are, what they hold, and which of them are late.

One sweep a second looks after all of them; a timer per request would cost more than the limits do.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import OrderedDict
from dataclasses import dataclass
from ipaddress import IPv6Address
from typing import Protocol

from service.http.connection.refusals import CROWDED, DISPLACED, MEMORY, UNREAD, Refusal
from service.http.connection.turns import Turns
from service.metrics import Metrics
from service.outages import Outage

SWEEP_SECONDS = 1.0
"""Seconds between two sweeps, by which a limit of time may be overstepped."""
LINGER_SECONDS = 2.0
"""Seconds for which a refused client may go on sending while it reads the response."""
MOST_HELD_BYTES = 64 * 2**20
"""Bytes of all requests under way together; beyond them the largest request is refused."""
MOST_UNREAD_BYTES = 64 * 2**20
"""Bytes of all answers that wait for clients; beyond them the client that is waited for longest is cut."""
NEVER = 1 << 60
"""Sweep that does not come: what has no limit of time is due then."""

log = logging.getLogger("service.connections")


class Phase:
    """What a connection waits for; from ``LINGERING`` on it is being closed.

    Plain numbers: to look up a member of an ``Enum`` takes four times as long.

    Attributes:
        HEAD: rest of a request's head.
        BODY: rest of the body of a request that is worked on.
        ANSWERING: application.
        REST: rest of a body that was answered before it was complete.
        IDLE: next request.
        LINGERING: end of what a refused client still sends.
        ENDING: end of the connection; the last bytes of an answer may still go out.
    """

    HEAD, BODY, ANSWERING, REST, IDLE, LINGERING, ENDING = range(7)


class Connection(Protocol):
    """A connection as the worker's list sees it.

    Attributes:
        phase: what it waits for.
        deadline: number of the sweep at which its phase has lasted too long.
        stall_deadline: number of the sweep at which the client has not taken an answer for too long.
        held: bytes of its request under way, head and framing included.
        unread: bytes that the client has not taken, as of when they became too many.
        client_key: what counts as one client; see ``client_key``.
    """

    phase: int
    deadline: int
    stall_deadline: int
    held: int
    unread: int
    client_key: str

    def expire(self) -> None:
        """Ends what has lasted too long."""

    def displace(self) -> None:
        """Closes the connection for a new one."""

    def cut(self, refusal: Refusal) -> None:
        """Refuses the connection although its request is worked on."""


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """Limits of a worker's connections.

    Attributes:
        connections: number of connections that may be open, at least 1.
        head_s: seconds from the first byte, or from the connection, to the end of a request's head.
        transfer_s: seconds for the body of a request, and for a client to take what it was sent.
        idle_s: seconds between two requests.
        body_bytes: bytes that a request's body may have.
    """

    connections: int
    head_s: float
    transfer_s: float
    idle_s: float
    body_bytes: int


class OpenConnections:
    """The open connections of one worker; used by its event loop alone.

    Attributes:
        limits: limits of the connections.
        sweeps: number of sweeps so far, the clock of all limits of time: what the worker itself slept through
            is not counted against clients.
        turns: requests that are not started yet.
    """

    def __init__(self, limits: ConnectionLimits, metrics: Metrics) -> None:
        self.limits = limits
        self.sweeps = 0
        # Sweeps for each phase, in their order.
        self._ticks = (
            _ticks(limits.head_s),
            _ticks(limits.transfer_s),
            NEVER,  # the deadline of an answer is the application's
            _ticks(LINGER_SECONDS),
            _ticks(limits.idle_s),
            _ticks(LINGER_SECONDS),
            _ticks(limits.transfer_s),
        )
        self.turns = Turns()
        self._metrics = metrics
        self._outages: dict[str, Outage] = {}
        self._held = self._unread = 0  # sums over the connections
        # In use, and by address; those being closed are in `_leaving` alone.
        self._open: dict[Connection, None] = {}
        self._by_address: dict[str, dict[Connection, None]] = {}
        # In the order of the last byte received, of the first full buffer, and of the end.
        self._waiting: OrderedDict[Connection, None] = OrderedDict()
        self._stalled: OrderedDict[Connection, None] = OrderedDict()
        self._leaving: OrderedDict[Connection, None] = OrderedDict()
        self._most_leaving = max(16, limits.connections // 8)
        self._sweeper: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._open) + len(self._leaving)

    def admit(self, connection: Connection) -> None:
        """Takes a new connection in; at the limit it gets the place of another, or is refused.

        The connection that was silent longest is closed for it. Where all have a request under way, it is the
        newest one of the address that has most of them; if that is its own address, the new one is refused.
        """
        if self._sweeper is None:
            self._sweeper = asyncio.get_running_loop().call_later(SWEEP_SECONDS, self._sweep)
        if len(self._open) >= self.limits.connections:
            if self._waiting:
                next(iter(self._waiting)).displace()
            elif (displaced := self._of_the_crowd(connection)) is not None:
                displaced.cut(DISPLACED)
            else:
                self._open[connection] = None
                connection.cut(CROWDED)
                return
        self._open[connection] = None
        self._by_address.setdefault(connection.client_key, {})[connection] = None
        self.turn(connection, Phase.HEAD)

    def turn(self, connection: Connection, phase: int) -> None:
        """Notes that a connection now waits for something else, from now on."""
        connection.phase = phase
        connection.deadline = self.sweeps + self._ticks[phase]
        if phase == Phase.ANSWERING:
            self._waiting.pop(connection, None)
        elif phase >= Phase.LINGERING:
            self._leave(connection)
        else:
            self._waiting[connection] = None
            if phase == Phase.IDLE:
                self.released(connection)

    def received(self, connection: Connection, count: int) -> None:
        """Notes that bytes came in; beyond ``MOST_HELD_BYTES`` of all the largest request is refused."""
        connection.held += count
        self._held += count
        if connection in self._waiting:
            self._waiting.move_to_end(connection)
        if self._held > MOST_HELD_BYTES:
            max(self._open, key=lambda each: each.held).cut(MEMORY)

    def released(self, connection: Connection, requests: int = 1) -> None:
        """Notes that one of the requests that a connection holds is answered."""
        released = connection.held // requests
        self._held -= released
        connection.held -= released

    def stalled(self, connection: Connection, unread: int) -> None:
        """Notes that a client does not take what it is sent.

        Args:
            connection: connection of the client.
            unread: number of bytes that wait for it.
        """
        self.taken(connection)
        connection.unread, connection.stall_deadline = unread, self.sweeps + _ticks(self.limits.transfer_s)
        self._unread += unread
        self._stalled[connection] = None
        if self._unread > MOST_UNREAD_BYTES:
            next(iter(self._stalled)).cut(UNREAD)

    def taken(self, connection: Connection) -> None:
        """Notes that a client has taken what it was sent, or that it is gone."""
        self._unread -= connection.unread
        connection.unread, connection.stall_deadline = 0, NEVER
        self._stalled.pop(connection, None)

    def forget(self, connection: Connection) -> None:
        """Notes that a connection is closed."""
        self._leave(connection)
        del self._leaving[connection]

    def count(self, refusal: Refusal) -> None:
        """Counts a refusal, and logs its kind now and then."""
        self._metrics.connections_refused.labels(refusal.reason).inc()
        outage = self._outages.get(refusal.reason)
        if outage is None:
            level = logging.WARNING if refusal.load else logging.INFO
            outage = self._outages[refusal.reason] = Outage(refusal.reason, log, level=level)
        outage.failed("connections are refused (%s): %s", refusal.reason, refusal.detail)

    def _leave(self, connection: Connection) -> None:
        """Gives the place of a connection to others; too many that are only being closed are cut off."""
        if connection in self._leaving:
            return
        self.released(connection)
        self.taken(connection)
        self._open.pop(connection, None)
        self._waiting.pop(connection, None)
        if (same := self._by_address.get(connection.client_key)) is not None:
            same.pop(connection, None)
            if not same:
                del self._by_address[connection.client_key]
        self._leaving[connection] = None
        if len(self._leaving) > self._most_leaving:
            oldest = next(iter(self._leaving))
            self._leaving.move_to_end(oldest)  # it stays until the event loop reports its end
            oldest.expire()

    def _of_the_crowd(self, newcomer: Connection) -> Connection | None:
        """Returns the newest connection of the address with most; None if the newcomer's has as many."""
        most = max(self._by_address.values(), key=len)
        own = self._by_address.get(newcomer.client_key, ())
        return next(reversed(most)) if len(most) > len(own) + 1 else None

    def _sweep(self) -> None:
        self.sweeps += 1
        now = self.sweeps
        late = [
            each
            for group in (self._open, self._leaving)
            for each in group
            if each.deadline <= now or each.stall_deadline <= now
        ]
        for each in late:
            each.expire()
        self._metrics.connections.set(len(self))
        self._sweeper = (
            asyncio.get_running_loop().call_later(SWEEP_SECONDS, self._sweep) if len(self) else None
        )


def _ticks(seconds: float) -> int:
    """Returns after how many sweeps at least so many seconds have passed; one may be due at once."""
    return math.ceil(seconds / SWEEP_SECONDS) + 1


def client_key(address: str) -> str:
    """Returns what counts as one client: an IPv4 address, or the /64 network of an IPv6 address."""
    if ":" not in address:
        return address
    try:
        parsed = IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    # A socket of both families names IPv4 clients so (RFC 4291, 2.5.5.2): all of them would be one network.
    return str(parsed.ipv4_mapped) if parsed.ipv4_mapped else parsed.exploded[:19]
