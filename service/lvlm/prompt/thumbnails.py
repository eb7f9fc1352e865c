"""Makes thumbnails of item images and keeps them in memory, so that a request need not open the images."""

from __future__ import annotations

import threading
from collections import OrderedDict
from pathlib import Path

from PIL import Image, ImageOps

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
"""Formats, by Pillow's names, that are opened; an image of any other format is unreadable."""

MAX_PIXELS = 50_000_000
"""Pixels beyond which an image is unreadable: a small file may decode to gigabytes."""

BACKGROUND = (255, 255, 255)
"""RGB colour behind transparent images and beside narrow ones."""


class UnreadableImageError(Exception):
    """The file is missing, damaged, of an unknown format or too large to open safely."""


def open_thumbnail(path: Path, side: int) -> Image.Image:
    """Opens an image as RGB, upright, fitted into ``side`` × ``side`` pixels with its proportions kept.

    Transparency becomes white, and an animation is its first frame. The format is read from the contents, not
    from the name: catalogues have PNGs named .jpg.

    Raises:
        UnreadableImageError: the file cannot be opened as an image of a known format and size.
    """
    try:
        with Image.open(path, formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise UnreadableImageError(
                    f"{path} has {image.width} × {image.height} pixels, more than {MAX_PIXELS}"
                )
            image.draft("RGB", (2 * side, 2 * side))  # only for JPEG: decodes at 1/2, 1/4 or 1/8 of the size
            upright = ImageOps.exif_transpose(image)
            return ImageOps.contain(_rgb(upright), (side, side), Image.Resampling.LANCZOS)
    except UnreadableImageError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UnreadableImageError(f"{path} is too large to open safely") from error
    # Pillow's decoders raise whatever their parsers do on damaged input: struct.error, TypeError, and more.
    except Exception as error:
        raise UnreadableImageError(f"{path} cannot be read as an image: {error}") from error


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits of grey
        image = image.convert("I").point(lambda value: value / 256).convert("L")
    # Transparency may be a channel, or a colour of a palette.
    if "A" in image.getbands() or "transparency" in image.info:
        transparent = image.convert("RGBA")
        canvas = Image.new("RGBA", transparent.size, (*BACKGROUND, 255))
        return Image.alpha_composite(canvas, transparent).convert("RGB")
    return image.convert("RGB")


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

    def get(self, path: Path, digest: str, side: int) -> Image.Image:
        """Returns the thumbnail of an image, from memory or else from its file.

        Args:
            path: file of the image.
            digest: digest of the file, by which equal images share a thumbnail.
            side: pixels of the square that the thumbnail is fitted into.

        Raises:
            UnreadableImageError: the file cannot be opened as an image.
        """
        key = (digest, side)
        with self._lock:
            kept = self._thumbnails.get(key)
            if kept is not None:
                self._thumbnails.move_to_end(key)
                return kept
        # Without the lock, so that threads decode side by side; two may open the same image.
        thumbnail = open_thumbnail(path, side)
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
