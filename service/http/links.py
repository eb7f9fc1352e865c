"""Addresses of our own resources."""

from __future__ import annotations

from functools import lru_cache
from urllib.parse import quote


@lru_cache(maxsize=65_536)
def image_url(item_id: str) -> str:
    """Where an item's picture is."""
    return f"/items/{quote(item_id, safe='')}/image"
