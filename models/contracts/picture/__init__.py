"""Opens item pictures, so that training, captioning and the LVLM's prompts see the same pixels.

The one package of ``models.contracts`` that needs Pillow; it is imported by name, and by no module there.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from math import ceil
from pathlib import Path

from PIL import Image
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from models.contracts.picture.parts import (
    MAX_PIECES,
    Parts,
    PiecesError,
    exif_orientation,
    jpeg_parts,
    png_parts,
)

MAX_BYTES = 32 * 2**20
"""Bytes of a file beyond which it is refused unread."""

MAX_PIXELS = 50_000_000
"""Pixels beyond which a picture is refused before it is decoded: a small file may decode to gigabytes."""

LONGEST = 65_535
"""Pixels of one side beyond which a picture is refused, as in a JPEG: Pillow would hold several rows."""

MAX_SIDE = 2048
"""Pixels of the longer side beyond which a picture is reduced: four times what prompts and features use."""

BACKGROUND = (255, 255, 255)
"""RGB colour behind transparent pictures, as in a shop."""

# Decoders that need so much memory or time that they are given fewer pixels.
_WEBP_PIXELS = 12_000_000  # libwebp and Pillow hold 20 bytes a pixel between them
_RUN_LENGTH_PIXELS = 4_000_000  # of a compressed BMP, which Pillow decodes in Python
_COEFFICIENT_BYTES = 150_000_000  # of a JPEG in several scans, which libjpeg collects before it decodes
_SCANS = 60  # of a JPEG: each may cost a pass over the whole picture and hold next to nothing

_TILE = 1024  # pixels of the side of a part that is converted at once
_HIGH_BYTES = [value >> 8 for value in range(2**16)]
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""How a picture is turned upright, by its EXIF orientation."""

_BMP_HEADERS = (12, 40, 52, 56, 64, 108, 124)


class PictureError(Exception):
    """The contents are no picture of a known format, are damaged, or are too large to open safely."""


def media_type(content: bytes) -> str | None:
    """Tells from the first bytes which of the formats that are opened a file has, without decoding it.

    Returns:
        ``image/jpeg``, ``image/png``, ``image/gif``, ``image/webp`` or ``image/bmp``; None for all else, such
        as SVG and HTML, which may hold scripts, or TIFF and AVIF, which browsers or LVLM vendors do not show.
    """
    if content.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if content.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    if content.startswith(b"RIFF") and content[8:12] == b"WEBP":
        return "image/webp"
    # Two letters alone could begin a text.
    if content.startswith(b"BM") and int.from_bytes(content[14:18], "little") in _BMP_HEADERS:
        return "image/bmp"
    return None


def read_picture(path: Path) -> bytes:
    """Reads the file of a picture; only a regular file of at most ``MAX_BYTES`` is opened.

    Raises:
        PictureError: it is missing, no file, too large or cannot be read; the message says which.
    """
    try:
        if not path.is_file():
            raise PictureError("it is missing" if not path.exists() else "it is no file")
        with path.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a name with a zero byte
        raise PictureError(f"it cannot be read ({error})") from error
    _check_bytes(content)
    return content


def open_picture(content: bytes) -> Image.Image:
    """Opens a picture as RGB, upright, its longer side at most ``MAX_SIDE`` pixels.

    The pixels depend on the bytes alone, never on who asks or on a file's name:

    - The format is that of the first bytes (``media_type``): catalogues have PNGs named .jpg.
    - Transparency, be it a channel, a palette's or one colour's, is laid over white.
    - Of an animation the first frame counts.
    - EXIF's orientation is applied; EXIF that makes no sense is ignored.
    - Colour profiles are ignored: numbers are taken as sRGB. CMYK is read as Adobe writes it, inverted.
    - Of 16 bits a channel the high byte counts. Grey, palettes and single bits become RGB.
    - A picture with a longer side is reduced by a whole number, the smallest that suffices (a JPEG by
      1/2, 1/4 or 1/8 first, while it is decoded), each pixel the mean of those that it stands for.
    - A file that ends too early is unreadable, for half a picture would show another item; bytes beyond the
      end are ignored.

    Opening takes less than 300 MB: larger files (``MAX_BYTES``), longer sides (``LONGEST``), more pixels
    (``MAX_PIXELS``; 12 million in a WebP, 4 million in a compressed BMP) and JPEGs in several passes of which
    decoding would take more are refused before.

    Args:
        content: bytes of the file.

    Raises:
        PictureError: they cannot be opened as a picture of a known format and size; the message says why.
    """
    try:
        return _open(content)
    except PictureError:
        raise
    except Image.DecompressionBombError as error:
        raise PictureError(f"it has more than {MAX_PIXELS:,} pixels") from error
    except Exception as error:  # a damaged picture raises nearly anything
        raise PictureError(f"it is damaged or cut off ({str(error) or type(error).__name__})") from error


def fitted(picture: Image.Image, side: int) -> Image.Image:
    """Returns a picture reduced or enlarged to fit ``side`` × ``side`` pixels, its proportions kept.

    Of a picture that is so thin that nothing would be left of it, one row or column is.
    """
    width, height = picture.size
    longer = max(width, height)
    size = (max(1, round(width / longer * side)), max(1, round(height / longer * side)))
    return picture.resize(size, Image.Resampling.LANCZOS)


class _Reader(io.BytesIO):
    """Bytes that Pillow may read in a limited number of pieces."""

    reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        self.reads += 1
        if self.reads > MAX_PIECES:
            raise PictureError(f"it has more than {MAX_PIECES:,} pieces")
        return super().read(size)


_DECODERS: dict[str, Callable[[_Reader], ImageFile]] = {
    "image/jpeg": JpegImageFile,
    "image/png": PngImageFile,
    "image/gif": GifImageFile,
    "image/webp": WebPImageFile,
    "image/bmp": BmpImageFile,
}
"""Pillow's classes, called by name: ``Image.open`` would try other formats too, some by other programs."""


def _check_bytes(content: bytes) -> None:
    if len(content) > MAX_BYTES:
        raise PictureError(f"it has more than {MAX_BYTES:,} bytes")


def _open(content: bytes) -> Image.Image:
    _check_bytes(content)
    kind = media_type(content)
    if kind is None:
        raise PictureError("it is neither JPEG, PNG, GIF, WebP nor BMP" if content else "it is empty")
    parts = _parts(content, kind)
    with _DECODERS[kind](_Reader(parts.content)) as image:
        _check_size(image, parts)
        _prepare(image)
        image.load()
        orientation = parts.orientation
        if kind == "image/webp":
            orientation = exif_orientation(image.info.get("exif", b""))
        picture = _reduced(image)
    return picture.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else picture


def _parts(content: bytes, kind: str) -> Parts:
    try:
        if kind == "image/jpeg":
            return jpeg_parts(content)
        return png_parts(content) if kind == "image/png" else Parts(content)
    except PiecesError as error:
        raise PictureError(str(error)) from error


def _check_size(image: ImageFile, parts: Parts) -> None:
    """Refuses a picture by what its header says, before memory is taken for its pixels."""
    pixels, most = image.width * image.height, MAX_PIXELS
    if isinstance(image, WebPImageFile):
        most = _WEBP_PIXELS
    elif isinstance(image, BmpImageFile) and image.info.get("compression") in (
        image.COMPRESSIONS["RLE8"],
        image.COMPRESSIONS["RLE4"],
    ):
        most = _RUN_LENGTH_PIXELS
    elif isinstance(image, JpegImageFile) and (
        # Of another, the first scan is all: what looks like more is behind its end, such as a phone's video.
        "progressive" in image.info or parts.first_scan < image.layers
    ):
        if parts.scans > _SCANS:
            raise PictureError(f"it has {parts.scans:,} scans, more than {_SCANS}")
        most = min(most, int(_COEFFICIENT_BYTES / _coefficient_bytes(image)))
    if max(image.size) > LONGEST:
        raise PictureError(f"one of its sides has {max(image.size):,} pixels, more than {LONGEST:,}")
    if pixels > most:
        raise PictureError(f"it has {image.width:,} × {image.height:,} pixels, more than {most:,}")
    if pixels == 0:
        raise PictureError("it has no pixels")


def _coefficient_bytes(image: JpegImageFile) -> float:
    """Bytes of coefficients of a JPEG for each pixel: two for each component's sample."""
    sampling = [(across, down) for _, across, down, _ in image.layer]
    widest, highest = max(across for across, _ in sampling), max(down for _, down in sampling)
    return sum(2 * across * down for across, down in sampling) / (widest * highest)


def _prepare(image: ImageFile) -> None:
    """Sets what must be known before the pixels are decoded."""
    factor = ceil(max(image.size) / MAX_SIDE)
    if isinstance(image, JpegImageFile) and factor > 1:
        scale = max(scale for scale in (2, 4, 8, 1) if scale <= factor)
        image.draft(None, (max(1, image.width // scale), max(1, image.height // scale)))
    key = image.info.get("transparency")
    if isinstance(key, tuple) and "16" in str(image.tile[0].args):
        image.info["transparency"] = tuple(value >> 8 for value in key)  # as its pixels


def _reduced(image: Image.Image) -> Image.Image:
    """Returns the picture as RGB of at most ``MAX_SIDE``, converted part by part, which takes less memory."""
    width, height = image.size
    factor = ceil(max(width, height) / MAX_SIDE)
    if factor == 1:
        return _rgb(image)
    whole = Image.new("RGB", (ceil(width / factor), ceil(height / factor)))
    step = factor * ceil(_TILE / factor)
    for top in range(0, height, step):
        for left in range(0, width, step):
            box = (left, top, min(left + step, width), min(top + step, height))
            whole.paste(_rgb(image.crop(box)).reduce(factor), (left // factor, top // factor))
    return whole


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        image = _eight_bits(image)
    if image.has_transparency_data:
        layered = image.convert("RGBA")
        canvas = Image.new("RGBA", layered.size, (*BACKGROUND, 255))
        return Image.alpha_composite(canvas, layered).convert("RGB")
    return image.convert("RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    """Turns 16 bits of grey into L, or into LA where one grey is transparent."""
    wide = image.convert("I")
    grey = wide.point(_HIGH_BYTES, "L")
    key = grey.info.pop("transparency", None)
    if isinstance(key, int):
        grey.putalpha(wide.point([0 if value == key else 255 for value in range(2**16)], "L"))
    return grey
