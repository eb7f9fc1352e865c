"""Reads JSON of which nothing is known: whatever was sent, each function returns the type it names."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import orjson

_LONG = 300  # digits; a float has no more


def load(data: bytes) -> object:
    """The value of a JSON text; lenient where senders are: NaN, broken UTF-8, numbers of any size.

    Raises:
        ValueError: it is no JSON.
    """
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        try:
            return json.loads(data.decode("utf-8", "replace"), parse_int=_whole)
        except RecursionError:
            raise ValueError("JSON nested too deeply") from None


def record(value: object) -> Mapping[str, Any]:
    """The object itself, or an empty one for anything else."""
    return value if isinstance(value, dict) else {}


def sequence(value: object) -> list[Any]:
    """The array itself, or an empty one for anything else."""
    return value if isinstance(value, list) else []


def text(value: object) -> str:
    """The string without lone surrogates, which cannot be sent on; empty for anything else."""
    if not isinstance(value, str):
        return ""
    return value if value.isascii() else value.encode("utf-8", "replace").decode("utf-8")


def count(value: object) -> int | None:
    """A whole number from 0 to 2⁵³, also one written as a float; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if not 0 <= value <= 2**53 or value != int(value):  # NaN is in no range
        return None
    return int(value)


def _whole(digits: str) -> float:
    """A whole number of any length; one that is too long for Python to read is only known to be large."""
    return int(digits) if len(digits) < _LONG else math.inf
