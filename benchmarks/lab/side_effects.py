"""Says what a load does to the service beside it: memory above idle, and slower answers of ``none``."""

from __future__ import annotations

MEGABYTE = 10**6
"""Bytes."""


def broken_limits(memory: int, slower: float, most_megabytes: float, most_ms: float) -> list[str]:
    """Returns a sentence for each limit that is broken.

    Args:
        memory: peak of resident memory above idle, in bytes.
        slower: milliseconds by which the median time of ``none`` has grown.
        most_megabytes: limit on the former, in 10^6 bytes.
        most_ms: limit on the latter, in milliseconds.
    """
    said = []
    if memory > most_megabytes * MEGABYTE:
        said.append(f"{memory / MEGABYTE:.0f} MB above idle, at most {most_megabytes:g}")
    if slower > most_ms:
        said.append(f"none is {slower:.1f} ms slower in the median, at most {most_ms:g}")
    return said
