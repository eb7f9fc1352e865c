"""Says which ids of items and users a path of the service can name (standard library only)."""

from __future__ import annotations

import unicodedata

MAX_ID_CHARACTERS = 256
"""Characters of an id at most, as in the service's requests."""


def id_problem(public_id: str) -> str | None:
    """Returns why no path can name an item or user by this id; None if one can.

    Any other text can be an id: in a path it is percent-encoded, slashes too.
    """
    if not public_id:
        return "is empty"
    if len(public_id) > MAX_ID_CHARACTERS:
        return f"has {len(public_id)} characters, more than {MAX_ID_CHARACTERS}"
    if public_id in {".", ".."}:
        return "is a step between folders, which clients take out of a path (RFC 3986, 5.2.4)"
    for character in () if public_id.isprintable() else public_id:  # nearly every id is
        category = unicodedata.category(character)
        if category == "Cc":
            return f"holds the control character U+{ord(character):04X}"
        if category == "Cs":
            return "holds half of a surrogate pair, which UTF-8 cannot encode"
    return None
