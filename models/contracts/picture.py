"""Opens item pictures, so that training, captioning and the LVLM's prompts see the same pixels.

The one module of ``models.contracts`` that needs Pillow; it is imported by name and by no other module there.
"""

from __future__ import annotations

import io
import warnings

from PIL import Image, ImageOps

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
"""Formats, by Pillow's names, that are opened. For some of the others Pillow would start other programs."""

MAX_PIXELS = 50_000_000
"""Pixels beyond which a picture is refused: a small file may decode to gigabytes."""

BACKGROUND = (255, 255, 255)
"""RGB colour behind transparent pictures, as in a shop."""


class PictureError(Exception):
    """The contents are no picture of a known format, are damaged, or are too large to open safely."""


def open_picture(content: bytes) -> Image.Image:
    """Opens a picture as RGB, upright, at its full size.

    Transparency becomes white, and an animation is its first frame. The format is read from the contents, not
    from a name: catalogues have PNGs named .jpg.

    Args:
        content: bytes of the file.

    Raises:
        PictureError: they cannot be opened as a picture of a known format and size; the message says why.
    """
    try:
        with warnings.catch_warnings(), Image.open(io.BytesIO(content), formats=FORMATS) as image:
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            if image.width * image.height > MAX_PIXELS:
                raise PictureError(f"{image.width} × {image.height} pixels, more than {MAX_PIXELS}")
            return _rgb(ImageOps.exif_transpose(image))
    except PictureError:
        raise
    except Exception as error:  # a damaged picture raises nearly anything
        raise PictureError(str(error)) from error


def fitted(picture: Image.Image, side: int) -> Image.Image:
    """Returns a picture reduced or enlarged to fit ``side`` × ``side`` pixels, its proportions kept."""
    return ImageOps.contain(picture, (side, side), Image.Resampling.LANCZOS)


def media_type(content: bytes) -> str | None:
    """Returns the media type of a picture by its first bytes; None for what is not of ``FORMATS``."""
    for start, kind in (
        (b"\xff\xd8\xff", "image/jpeg"),
        (b"\x89PNG\r\n\x1a\n", "image/png"),
        (b"GIF87a", "image/gif"),
        (b"GIF89a", "image/gif"),
        (b"BM", "image/bmp"),
    ):
        if content.startswith(start):
            return kind
    return "image/webp" if content[:4] == b"RIFF" and content[8:12] == b"WEBP" else None


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits of grey
        image = image.convert("I").point(lambda value: value / 256).convert("L")
    if image.has_transparency_data:
        layered = image.convert("RGBA")
        canvas = Image.new("RGBA", layered.size, (*BACKGROUND, 255))
        return Image.alpha_composite(canvas, layered).convert("RGB")
    return image.convert("RGB")
