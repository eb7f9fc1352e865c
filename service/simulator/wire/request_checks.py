"""Checks that both wire formats make alike: the JSON of the body and the pictures in it."""

from __future__ import annotations

import base64
import binascii
import io
import json
import struct
from typing import Any

from PIL import Image

MAX_PIXELS = 50_000_000  # beyond, a picture is refused before it is decoded (a decompression bomb)
MEDIA_TYPES = {"JPEG": "image/jpeg", "PNG": "image/png", "GIF": "image/gif", "WEBP": "image/webp"}


def json_object(body: bytes | bytearray) -> dict[str, Any] | None:
    """Parses a body; returns None when it is not a JSON object."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def is_integer(value: object) -> bool:
    """Returns whether a JSON value is an integer; ``true`` is not, though it is an int in Python."""
    return isinstance(value, int) and not isinstance(value, bool)


def picture_bytes(encoded: str) -> bytes:
    """Decodes base64.

    Raises:
        ValueError: the text is not base64.
    """
    try:
        # validate=True refuses what is no base64; without it Python skips such letters.
        return base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError("not valid base64") from error


def inspect_picture(data: bytes) -> tuple[str, int, int]:
    """Finds media type, width and height without decoding the pixels.

    Raises:
        ValueError: not a JPEG, PNG, GIF or WebP picture, or too large.
    """
    try:
        with Image.open(io.BytesIO(data), formats=list(MEDIA_TYPES)) as image:
            width, height = image.size
            media_type = MEDIA_TYPES[image.format or ""]
    # Pillow's parsers let many exceptions through on a damaged header; an unidentified image is an OSError.
    except (
        Image.DecompressionBombError,
        OSError,
        SyntaxError,
        ValueError,
        LookupError,
        struct.error,
    ) as error:
        raise ValueError("not a JPEG, PNG, GIF or WebP picture") from error
    if width * height > MAX_PIXELS:
        raise ValueError(f"{width}×{height} pixels are more than {MAX_PIXELS}")
    return media_type, width, height
