"""Reads JSON objects: any of a line, and strictly those of a manifest, which others write out again."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

MAX_DEPTH = 32
"""Objects and lists within each other at most."""

MAX_INTEGER = 2**63 - 1

_ANY = json.JSONDecoder()


def parse_object(content: bytes, decoder: json.JSONDecoder = _ANY) -> dict[str, Any]:
    """Parses a JSON object.

    Args:
        content: bytes of the object.
        decoder: decoder of the text, whose hooks may raise ValueError.

    Raises:
        ValueError: it is blank, not UTF-8, not JSON, no object, or nested too deeply; the message says which.
    """
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise ValueError("it is not UTF-8") from error
    try:
        record = decoder.decode(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not JSON ({error})" if text.strip() else "it is blank") from error
    if not isinstance(record, dict):
        raise ValueError("it is not a JSON object")
    return record


def parse_strictly(content: bytes) -> dict[str, Any]:
    """Parses a JSON object of which nothing surprises those who write it out again.

    Raises:
        ValueError: as ``parse_object``; or it names a field twice, has NaN or a number that is too large for
            others to read, half of a surrogate pair, or more than ``MAX_DEPTH`` levels.
    """
    record = parse_object(content, _STRICT)
    _check(record, MAX_DEPTH)
    return record


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"it has {next(n for n in names if names.count(n) > 1)[:80]!r} twice")
    return record


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number of JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"the number {text[:40]} is too large")
    return number


def _bounded(text: str) -> int:
    if len(text) > 20 or abs(number := int(text)) > MAX_INTEGER:
        raise ValueError(f"the number {text[:40]} is too large")
    return number


_STRICT = json.JSONDecoder(
    object_pairs_hook=_once, parse_constant=_refuse, parse_float=_finite, parse_int=_bounded
)


def _check(value: object, depth: int) -> None:
    if isinstance(value, dict | list):
        if not depth:
            raise ValueError("it is nested too deeply")
        for each in value:
            _check(each, depth - 1)
            if isinstance(value, dict):
                _check(value[each], depth - 1)
    elif isinstance(value, str) and not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise ValueError("a text holds half of a surrogate pair, which UTF-8 cannot encode") from error
