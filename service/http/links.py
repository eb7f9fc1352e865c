"""Builds the paths under which answers link to resources of the service."""

from __future__ import annotations

from functools import lru_cache
from urllib.parse import quote


@lru_cache(maxsize=65_536)
def image_url(item_id: str) -> str:
    """Returns the path of an item's image; an id may hold any character, ``/`` included."""
    return f"/items/{quote(item_id, safe='')}/image"
