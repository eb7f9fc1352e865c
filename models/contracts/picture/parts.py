"""Takes JPEG and PNG files apart: which pieces make the pixels, and how EXIF says that they are turned.

Pillow is handed nothing else. It would read texts, profiles and EXIF into memory before the pixels, and a few
kilobytes of those can be written so that they fill it.
"""

from __future__ import annotations

from dataclasses import dataclass

MAX_PIECES = 200_000
"""Pieces, or reads, beyond which a file is refused: millions of empty ones would last minutes."""

_PNG_PIXELS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
_SOS, _APP0, _APP1, _APP14, _APP15, _COM = 0xDA, 0xE0, 0xE1, 0xEE, 0xEF, 0xFE
_ALONE = (0x00, 0x01, *range(0xD0, 0xD9))  # JPEG markers that no length follows
_ORIENTATION = 0x0112
_EXIF = b"Exif\0\0"


class PiecesError(Exception):
    """A file ends within a piece, or has too many of them."""


@dataclass(frozen=True)
class Parts:
    """What of a file makes the picture.

    Attributes:
        content: the file without all that does not change a pixel.
        orientation: EXIF's number from 1 to 8; 1 is upright.
        scans: for JPEG, the number of passes over the picture that follow.
        first_scan: for JPEG, the number of components in the first of them.
    """

    content: bytes
    orientation: int = 1
    scans: int = 1
    first_scan: int = 0


def jpeg_parts(content: bytes) -> Parts:
    """Keeps tables, frame and scans of a JPEG, and the segments of JFIF and Adobe that tell its colours.

    Raises:
        PiecesError: it has no scan, or too many segments.
    """
    view = memoryview(content)
    kept: list[memoryview] = [view[:2]]
    orientation, at = None, 2
    for _ in range(MAX_PIECES):
        start = content.find(b"\xff", at)
        if start < 0 or start + 4 > len(content):
            break
        marker = content[start + 1]
        if marker == 0xFF or marker in _ALONE:  # filling between segments
            at = start + (1 if marker == 0xFF else 2)
            continue
        if marker == _SOS:
            return Parts(
                b"".join([*kept, view[start:]]),
                orientation or 1,
                scans=content.count(b"\xff\xda", start),
                first_scan=content[start + 4] if start + 4 < len(content) else 0,
            )
        # A length counts its own two bytes. One that does not is kept with them, and a decoder stops there.
        at = start + 2 + max(2, int.from_bytes(content[start + 2 : start + 4]))
        if marker == _APP1 and orientation is None and content.startswith(_EXIF, start + 4):
            orientation = exif_orientation(content[start + 4 : at])
        if not (_APP0 < marker <= _APP15 and marker != _APP14) and marker != _COM:
            kept.append(view[start:at])
    else:
        raise PiecesError(f"it has more than {MAX_PIECES:,} segments")
    raise PiecesError("it ends before its pixels")


def png_parts(content: bytes) -> Parts:
    """Keeps header, palette, transparency and pixels of a PNG; of an animation the picture for all viewers.

    Raises:
        PiecesError: it has too many chunks.
    """
    view = memoryview(content)
    kept: list[memoryview] = [view[:8]]
    orientation, at = None, 8
    for _ in range(MAX_PIECES):
        kind = content[at + 4 : at + 8]
        end = at + 12 + int.from_bytes(content[at : at + 4])
        if kind in _PNG_PIXELS:
            kept.append(view[at:end])
        elif kind == b"eXIf" and orientation is None:
            orientation = exif_orientation(content[at + 8 : end - 4])
        at = end
        if kind == b"IEND" or at >= len(content):
            return Parts(b"".join(kept), orientation or 1)
    raise PiecesError(f"it has more than {MAX_PIECES:,} chunks")


def exif_orientation(exif: bytes) -> int:
    """Reads the orientation from the first directory of EXIF; 1, which is upright, where it makes no sense.

    Source: Exif 2.32, section 4.6.4; TIFF 6.0, section 2.
    """
    tiff = exif.removeprefix(_EXIF)
    if not tiff.startswith((b"II*\0", b"MM\0*")):
        return 1

    def number(at: int, size: int) -> int:
        return int.from_bytes(tiff[at : at + size], "little" if tiff.startswith(b"II") else "big")

    directory = number(4, 4)
    entries = min(number(directory, 2), (len(tiff) - directory) // 12)
    for at in range(directory + 2, directory + 2 + 12 * entries, 12):
        if number(at, 2) == _ORIENTATION:
            short = number(at + 2, 2) == 3  # the other type that is met has four bytes
            value = number(at + 8, 2 if short else 4)
            return value if 1 <= value <= 8 else 1
    return 1
