"""Addresses of our own resources."""

from __future__ import annotations

from urllib.parse import quote


def image_url(item_id: str) -> str:
    """Where an item's picture is."""
    return f"/items/{quote(item_id, safe='')}/image"
