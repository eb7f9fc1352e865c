"""Server-sent events as vendors send them: an optional name and one JSON object each.

The SDKs build a model object with all its fields for every token, which costs more than all the rest of a
call (`python -m benchmarks stage`); what is read of an event is two or three fields.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from service.lvlm.providers.base import FailureKind, ProviderError

LONGEST = 2**20
"""Bytes of one event; nobody sends more, and an endless one must not fill the memory."""


async def read_events(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The data of each event, as it arrives; empty for a comment, which says that the server is alive.

    Raises:
        ProviderError: an event is too long to be one.
    """
    data: list[bytes] = []
    async for line in _lines(chunks):
        if line.startswith(b"data:"):
            data.append(line[5:].removeprefix(b" "))
            if sum(map(len, data)) > LONGEST:
                raise ProviderError(FailureKind.SERVER, "the provider sent an event without an end")
        elif line.startswith(b":"):
            yield b""
        elif not line and data:
            yield b"\n".join(data)
            data = []
    if data:
        yield b"\n".join(data)


async def _lines(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    rest = b""
    async for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        if len(rest) > LONGEST:
            raise ProviderError(FailureKind.SERVER, "the provider sent an event without an end")
        for line in lines:
            yield line.removesuffix(b"\r")
    if rest:
        yield rest.removesuffix(b"\r")
