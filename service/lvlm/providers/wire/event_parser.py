"""Parses server-sent events (WHATWG HTML, section 9.2.6) into their data, as the bytes arrive.

In: chunks of a body. Out: the data of each event, as bytes. Names, ids and retry times of events are ignored;
what the data means is read by ``response_body`` and the vendors' readers.

The SDKs' own parsers are not used: they build a model object with all fields for every token, which costs
more than all the rest of a call (``python -m benchmarks stage``), and only two or three fields are needed.
"""

from __future__ import annotations

from collections.abc import Iterator

from service.lvlm.providers.wire.size_limits import MAX_EVENT, oversized

KEEP_ALIVE = b""
"""Item that stands for the comments of a chunk, by which servers keep a connection open."""

_PER_LINE = 64  # bytes of Python's own beside those of each line, for the limit on memory


class EventParser:
    """Parses one body chunk by chunk; lines may end with LF, CR LF or CR, also in the middle of a chunk.

    Attributes:
        lines: number of whole lines so far.
    """

    def __init__(self) -> None:
        self._parts: list[bytes] = []  # of the line that has not ended yet
        self._data: list[bytes] = []  # data lines of the event that has not ended yet
        self._line_size = self._data_size = 0
        self._after_cr = False
        self.lines = 0

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Yields the data of each event that the chunk completes, and ``KEEP_ALIVE`` once for its comments.

        Raises:
            ProviderError: an event is longer than ``MAX_EVENT``.
        """
        # A CR LF that two chunks share is one line end.
        if self._after_cr and chunk.startswith(b"\n"):
            chunk, self._after_cr = chunk[1:], False
        if not chunk:
            return
        self._after_cr = chunk.endswith(b"\r")
        self._parts.append(chunk)
        self._line_size += len(chunk)
        if b"\n" in chunk or b"\r" in chunk:
            yield from self._lines(chunk[-1:] in (b"\n", b"\r"))
        if self._line_size + self._data_size > MAX_EVENT:
            raise oversized("an event")

    def end(self) -> Iterator[bytes]:
        """Yields the last event when the body has ended without a blank line after it.

        The standard discards such an event; some servers end their streams that way.
        """
        if self._parts:
            yield from self._lines(ended=True)
        if self._data:
            yield self._event()

    def _lines(self, ended: bool) -> Iterator[bytes]:
        """Reads all whole lines received; ``ended`` says that the last one is whole too."""
        lines = b"".join(self._parts).splitlines()  # of bytes: at LF, CR LF and CR only
        self._parts = [] if ended else [lines.pop()]
        self._line_size = sum(map(len, self._parts))
        self.lines += len(lines)
        commented = False
        for line in lines:
            if line.startswith(b"data:"):
                self._data.append(line[5:].removeprefix(b" "))  # one space after the colon is no data
                self._data_size += len(line) + _PER_LINE
            elif line.startswith(b":"):
                commented = True
            elif line.startswith(b"{"):  # some servers report an error in a bare JSON object
                yield line
            elif not line and self._data:
                yield self._event()
        if commented:
            yield KEEP_ALIVE

    def _event(self) -> bytes:
        data, self._data, self._data_size = b"\n".join(self._data), [], 0
        return data
