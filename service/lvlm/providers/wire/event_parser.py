"""Server-sent events as vendors send them (WHATWG HTML, section 9.2): ``data`` lines, ended by a blank one.

The SDKs build a model object with all its fields for every token, which costs more than all the rest of a
call (`python -m benchmarks stage`); what is read of an event is two or three fields.
"""

from __future__ import annotations

from collections.abc import Iterator

from service.lvlm.providers.wire.size_limits import EVENT, oversized

KEEP_ALIVE = b""
"""Stands for comments: the server is alive and has nothing to show."""

_PER_LINE = 64  # bytes that Python keeps beside those of a line


class EventParser:
    """Takes a body apart as it arrives; lines may end with LF, CR LF or CR.

    Attributes:
        lines: that have come.
    """

    def __init__(self) -> None:
        self._parts: list[bytes] = []  # of the line under way
        self._data: list[bytes] = []  # of the event under way
        self._line_size = self._data_size = 0
        self._after_cr = False
        self.lines = 0

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Yield the data of each event that the chunk completes, and ``KEEP_ALIVE`` once for its comments.

        Raises:
            ProviderError: an event is too long to be one.
        """
        if self._after_cr and chunk.startswith(b"\n"):
            chunk, self._after_cr = chunk[1:], False
        if not chunk:
            return
        self._after_cr = chunk.endswith(b"\r")
        self._parts.append(chunk)
        self._line_size += len(chunk)
        if b"\n" in chunk or b"\r" in chunk:
            yield from self._lines(chunk[-1:] in (b"\n", b"\r"))
        if self._line_size + self._data_size > EVENT:
            raise oversized("an event")

    def end(self) -> Iterator[bytes]:
        """Yield what is left when the body has ended: the last event, if no blank line followed it."""
        if self._parts:
            yield from self._lines(ended=True)
        if self._data:
            yield self._event()

    def _lines(self, ended: bool) -> Iterator[bytes]:
        lines = b"".join(self._parts).splitlines()
        self._parts = [] if ended else [lines.pop()]
        self._line_size = sum(map(len, self._parts))
        self.lines += len(lines)
        commented = False
        for line in lines:
            if line.startswith(b"data:"):
                self._data.append(line[5:].removeprefix(b" "))
                self._data_size += len(line) + _PER_LINE
            elif line.startswith(b":"):
                commented = True
            elif line.startswith(b"{"):  # some servers break off with a bare JSON object
                yield line
            elif not line and self._data:
                yield self._event()
        if commented:
            yield KEEP_ALIVE

    def _event(self) -> bytes:
        data, self._data, self._data_size = b"\n".join(self._data), [], 0
        return data
