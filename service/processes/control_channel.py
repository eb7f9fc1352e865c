"""Carries messages between the parent and a worker over a pair of sockets."""

from __future__ import annotations

import asyncio
import pickle
import socket
import struct
from dataclasses import dataclass

_LENGTH = struct.Struct("!I")
BACKLOG_BYTES = 262_144
"""Bytes that a peer has not taken from which on messages that come regularly are left out."""


@dataclass(frozen=True, slots=True)
class Ready:
    """A worker serves.

    Attributes:
        dataset: data set of its bundle.
        version: version of its catalogue.
        greeting: text for the terminal.
    """

    dataset: str
    version: str
    greeting: str


@dataclass(frozen=True, slots=True)
class Failed:
    """A worker cannot start, for a reason that its user can change.

    Attributes:
        sentence: what is wrong and what to do.
        status: exit status that the service should end with.
    """

    sentence: str
    status: int


@dataclass(frozen=True, slots=True)
class Alive:
    """A worker's event loop runs; sent each second.

    Attributes:
        snapshot: values of its metrics; None where they are those that were sent before.
        answers: number of the question that asked for it; 0 for none.
    """

    snapshot: bytes | None
    answers: int = 0


@dataclass(frozen=True, slots=True)
class AskMetrics:
    """A worker is scraped and asks for the metrics of all."""


@dataclass(frozen=True, slots=True)
class AllMetrics:
    """The exposition of all workers, for a worker that asked for it."""

    text: bytes


@dataclass(frozen=True, slots=True)
class AskSnapshot:
    """The parent asks for the values of a worker's metrics now; it answers with ``Alive``.

    Attributes:
        number: number of the question, at least 1.
    """

    number: int


@dataclass(frozen=True, slots=True)
class Reload:
    """The parent asks a worker to open the bundle anew."""


@dataclass(frozen=True, slots=True)
class Reloaded:
    """A worker has opened the bundle anew, or could not.

    Attributes:
        version: version of the catalogue that it serves now; None for a bundle that it refused.
        sentence: why it refused.
    """

    version: str | None
    sentence: str = ""


@dataclass(frozen=True, slots=True)
class Degraded:
    """Parts around the workers that are down, such as the simulator."""

    parts: frozenset[str]


@dataclass(frozen=True, slots=True)
class Announce:
    """The service is about to stop: workers say so and still answer everything."""


@dataclass(frozen=True, slots=True)
class Stop:
    """A worker takes no more connections, finishes what is under way and ends.

    Attributes:
        seconds: seconds that it has.
    """

    seconds: float


Message = (
    Ready
    | Failed
    | Alive
    | AskMetrics
    | AllMetrics
    | AskSnapshot
    | Reload
    | Reloaded
    | Degraded
    | Announce
    | Stop
)


class Channel:
    """One end of the connection between the parent and a worker; made by ``open_channel``."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @property
    def is_backed_up(self) -> bool:
        """Whether the peer does not take what it is sent: what comes regularly had better be left out."""
        return self._writer.transport.get_write_buffer_size() > BACKLOG_BYTES

    def send(self, message: Message) -> None:
        """Sends a message; to a peer that has ended, it is lost."""
        content = pickle.dumps(message)
        self._writer.write(_LENGTH.pack(len(content)) + content)

    async def receive(self) -> Message | None:
        """Returns the next message; None when the peer has ended."""
        try:
            (length,) = _LENGTH.unpack(await self._reader.readexactly(_LENGTH.size))
            content = await self._reader.readexactly(length)
        except (asyncio.IncompleteReadError, OSError):
            return None
        message: Message = pickle.loads(content)  # noqa: S301 - the peer is our own parent or child
        return message

    async def close(self) -> None:
        """Sends what is left, for a second at most, and closes this end."""
        try:
            async with asyncio.timeout(1):
                await self._writer.drain()
                self._writer.close()
                await self._writer.wait_closed()
        except (OSError, TimeoutError):
            self._writer.transport.abort()


async def open_channel(end: socket.socket) -> Channel:
    """Returns the channel over one end of ``socket.socketpair()``."""
    return Channel(*await asyncio.open_unix_connection(sock=end))
