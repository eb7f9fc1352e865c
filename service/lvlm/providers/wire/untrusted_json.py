"""Decodes JSON from servers, of which nothing is known, and reads values of a wanted type from it.

In: bytes, or a decoded value of any type. Out: a value of the type that each function names, or an empty one.
Only ``load`` raises.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import orjson

_MAX_DIGITS = 300  # of a whole number; beyond some 308 a float is infinite


def load(data: bytes) -> object:
    """Decodes a JSON text, leniently: NaN, invalid UTF-8 and numbers of any size are accepted.

    Raises:
        ValueError: the text is not JSON, or nested too deeply.
    """
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:  # the standard library's decoder is slower and accepts more
        try:
            return json.loads(data.decode("utf-8", "replace"), parse_int=_whole)
        except RecursionError:
            raise ValueError("JSON nested too deeply") from None


def record(value: object) -> Mapping[str, Any]:
    """Returns a decoded JSON object as it is; an empty one for a value of another type."""
    return value if isinstance(value, dict) else {}


def sequence(value: object) -> list[Any]:
    """Returns a decoded JSON array as it is; an empty one for a value of another type."""
    return value if isinstance(value, list) else []


def text(value: object) -> str:
    """Returns a decoded string with "?" for lone surrogates; empty for a value of another type.

    JSON can write half of a surrogate pair as an escape, and UTF-8 cannot encode it.
    """
    if not isinstance(value, str):
        return ""
    return value if value.isascii() else value.encode("utf-8", "replace").decode("utf-8")


def count(value: object) -> int | None:
    """Returns a whole number from 0 to 2⁵³, also one written as a float; None for any other value."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if not 0 <= value <= 2**53 or value != int(value):  # NaN is in no range
        return None
    return int(value)


def _whole(digits: str) -> float:
    """The number of these digits; infinity for more of them than Python would convert (4,300 by default)."""
    return int(digits) if len(digits) < _MAX_DIGITS else math.inf
