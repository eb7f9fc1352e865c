"""Makes thumbnails of item images and keeps them in memory, so that a request need not open the images."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable

from PIL import Image

from models.contracts.picture import PictureError, fitted, open_picture


class UnreadableImageError(Exception):
    """The contents are no picture that can be opened safely; the message says why."""


def open_thumbnail(content: bytes, side: int) -> Image.Image:
    """Opens an image as RGB, upright, fitted into ``side`` × ``side`` pixels with its proportions kept.

    Args:
        content: bytes of the file.
        side: pixels of the square that the image is fitted into.

    Raises:
        UnreadableImageError: the bytes are no picture of a known format and size.
    """
    try:
        return fitted(open_picture(content), side)
    except PictureError as error:
        raise UnreadableImageError(str(error)) from error


class ThumbnailCache:
    """Keeps thumbnails in memory and drops the least recently used ones. Thread-safe.

    Args:
        max_bytes: bytes of the thumbnails' pixels at most; 0 keeps none.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._thumbnails: OrderedDict[tuple[str, int], Image.Image] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, read: Callable[[], bytes | None], digest: str, side: int) -> Image.Image | None:
        """Returns the thumbnail of an image, from memory or else made of its contents.

        Args:
            read: function that returns the contents of the image, or None if there is none to be shown.
            digest: digest of the image, by which equal images share a thumbnail.
            side: pixels of the square that the thumbnail is fitted into.

        Raises:
            UnreadableImageError: the contents cannot be opened as an image.
        """
        key = (digest, side)
        with self._lock:
            kept = self._thumbnails.get(key)
            if kept is not None:
                self._thumbnails.move_to_end(key)
                return kept
        # Without the lock, so that threads decode side by side; two may open the same image.
        content = read()
        if content is None:
            return None
        thumbnail = open_thumbnail(content, side)
        with self._lock:
            self._keep(key, thumbnail)
        return thumbnail

    def _keep(self, key: tuple[str, int], thumbnail: Image.Image) -> None:
        # Another thread may have added it meanwhile; one beyond the limit would drop all others.
        if key in self._thumbnails or _bytes(thumbnail) > self._max_bytes:
            return
        self._thumbnails[key] = thumbnail
        self._bytes += _bytes(thumbnail)
        while self._bytes > self._max_bytes:
            _, dropped = self._thumbnails.popitem(last=False)
            self._bytes -= _bytes(dropped)


def _bytes(image: Image.Image) -> int:
    return image.width * image.height * len(image.getbands())
