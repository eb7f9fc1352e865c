"""Draws numbers that depend on a key alone: SplitMix64 (Steele et al., OOPSLA 2014).

It is written out here, since numpy may change its streams between versions.
"""

from __future__ import annotations

from collections.abc import Iterator

_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15  # 2^64 / golden ratio, the increment of SplitMix64's state


def mix(state: int) -> int:
    """Mixes 64 bits: the output function of SplitMix64."""
    z = (state + _GOLDEN) & _MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return z ^ (z >> 31)


def draws(n_items: int, *key: int) -> Iterator[int]:
    """Yields uniform item rows without end, the same for the same key."""
    state = 0
    for part in key:  # each part is mixed in, so that (1, 2) and (2, 1) are different keys
        state = mix(state ^ part)
    while True:
        yield mix(state) % n_items  # the modulo's bias is below n_items / 2^64
        state += _GOLDEN
