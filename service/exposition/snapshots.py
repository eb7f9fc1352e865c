"""Writes the metrics of one worker as bytes that another process can check before it believes them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from hashlib import sha256
from typing import NamedTuple

import orjson
from pydantic import TypeAdapter, ValidationError

from service.exposition.families import Definition, Family, Series, definitions


class SnapshotError(ValueError):
    """A snapshot is damaged, or comes from a program with other metrics."""


class _Content(NamedTuple):
    fingerprint: str
    families: list[list[tuple[tuple[str, ...], list[float]]]]


_CONTENT = TypeAdapter(_Content)


def write_snapshot(families: Sequence[Family]) -> bytes:
    """Writes families as JSON: a fingerprint of their definitions, then the series of each.

    JSON and no pickle: whatever reached the reader, it is checked and never run.
    """
    fingerprint = _fingerprint(definitions(families))
    return orjson.dumps([fingerprint, [list(family.series.items()) for family in families]])


def read_snapshot(data: bytes, defined: tuple[Definition, ...]) -> list[Series]:
    """Reads the series of each defined metric, in the order of the definitions.

    Raises:
        SnapshotError: the bytes are no snapshot, or not one of exactly these definitions, or a value is
            missing, too many, or negative where it counts something.
    """
    try:
        content = _CONTENT.validate_json(data)
    except ValidationError:
        raise SnapshotError("no snapshot of metrics") from None
    if content.fingerprint != _fingerprint(defined) or len(content.families) != len(defined):
        raise SnapshotError("a snapshot of other metrics")
    return [
        _checked(series, definition) for series, definition in zip(content.families, defined, strict=True)
    ]


def _checked(found: list[tuple[tuple[str, ...], list[float]]], definition: Definition) -> Series:
    for key, values in found:
        if len(key) != len(definition.labels) or len(values) != definition.width:
            raise SnapshotError(f"{definition.name}: a series has another shape")
        if definition.kind != "gauge" and min(values) < 0:
            raise SnapshotError(f"{definition.name}: a negative count")
    return dict(found)


@lru_cache(maxsize=8)
def _fingerprint(defined: tuple[Definition, ...]) -> str:
    return sha256(repr(defined).encode()).hexdigest()[:16]
