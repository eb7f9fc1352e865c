"""Builds the paths under which answers link to resources of the service."""

from __future__ import annotations

from functools import lru_cache
from urllib.parse import quote


class Links:
    """Builds paths as clients see them, below the prefix of a proxy.

    Attributes:
        root_path: prefix (``MSR_ROOT_PATH``), such as ``/msr``; empty for none.
    """

    def __init__(self, root_path: str = "") -> None:
        self.root_path = root_path
        self.image_url = lru_cache(maxsize=65_536)(self._image_url)

    def _image_url(self, item_id: str) -> str:
        """Returns the path of an item's image; an id may hold any character, ``/`` included."""
        return f"{self.root_path}/items/{quote(item_id, safe='')}/image"
