"""Parses a large JSON body for a model, in time that is bounded whatever the body holds.

pydantic makes an object of several fields for every fault, 90,000 of them for 1 MiB of unknown fields: 150 ms
in which nothing else is answered. So values are counted before they are parsed, and names are checked before
pydantic sees them.
"""

from __future__ import annotations

from functools import cache
from typing import Any, get_args, get_origin

import numpy as np
import orjson
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel

MAX_VALUES = 10_000
"""Values (numbers, texts, lists, objects) that a body may hold; the largest batch of events has 5,000."""

COUNTED_FROM = 65_536
"""Bytes from which on values are counted; fewer bytes hold so few that parsing them takes 2 ms at most."""

UNKNOWN = "Extra inputs are not permitted"  # pydantic's words

_QUOTE = ord('"')
_BEGINS_VALUE = np.zeros(256, dtype=np.bool_)  # by byte: whether it begins a value, or the next one
_BEGINS_VALUE[[ord(character) for character in ",[{"]] = True


def parsed(body: bytes, model: type[BaseModel]) -> Any:
    """Returns the JSON of a body whose names are all fields of a model.

    Raises:
        RequestValidationError: the body is no JSON, holds more than ``MAX_VALUES`` values, or unknown fields.
    """
    if len(body) > COUNTED_FROM and _holds_too_many(body):
        message = f"Input holds more than {MAX_VALUES} values, which no request needs: send less at once"
        raise RequestValidationError([{"loc": ("body",), "msg": message}])
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise RequestValidationError([{"loc": ("body",), "msg": f"Invalid JSON: {error}"}]) from None
    unknown = _unknown(content, model, ("body",))
    if unknown:
        raise RequestValidationError([{"loc": location, "msg": UNKNOWN} for location in unknown])
    return content


def _holds_too_many(body: bytes) -> bool:
    """Returns whether a JSON body holds more than ``MAX_VALUES`` values."""
    if sum(map(body.count, (b",", b"[", b"{"))) < MAX_VALUES:  # at least as many, since texts hold some too
        return False
    if b"\\" in body:  # an escaped quote ends no text
        body = body.replace(rb"\\", b"__").replace(rb"\"", b"__")
    characters = np.frombuffer(body, np.uint8)
    found, ends_inside = 1, False
    # Piece by piece, since most bodies of too many values hold them at their beginning.
    for begin in range(0, len(body), COUNTED_FROM):
        piece = characters[begin : begin + COUNTED_FROM]
        inside_text = np.logical_xor.accumulate(piece == _QUOTE) ^ ends_inside
        found += int(np.count_nonzero(_BEGINS_VALUE[piece] & ~inside_text))
        if found > MAX_VALUES:
            return True
        ends_inside = bool(inside_text[-1])
    return False


def _unknown(content: Any, model: type[BaseModel], location: tuple[str | int, ...]) -> list[tuple[Any, ...]]:
    """Returns the locations of all names that are no fields, also in lists of models."""
    if not isinstance(content, dict):
        return []
    names, lists = _shape(model)
    found: list[tuple[Any, ...]] = []
    if not names.issuperset(content):
        found = [(*location, name) for name in content if name not in names]
    for name, inner in lists:
        entries = content.get(name)
        if isinstance(entries, list):
            for place, entry in enumerate(entries):
                found += _unknown(entry, inner, (*location, name, place))
    return found


@cache
def _shape(model: type[BaseModel]) -> tuple[frozenset[str], tuple[tuple[str, type[BaseModel]], ...]]:
    """Returns the names of a model's fields, and those that are lists of another model, with that model."""
    lists = [
        (name, inner)
        for name, field in model.model_fields.items()
        if get_origin(field.annotation) is list
        for inner in get_args(field.annotation)
        if isinstance(inner, type) and issubclass(inner, BaseModel)
    ]
    return frozenset(model.model_fields), tuple(lists)
