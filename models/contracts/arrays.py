"""Reads the headers of NumPy's files before memory is taken for what they promise (standard library only).

NumPy itself takes the memory first, and its ``.npz`` reader inflates whatever a member holds. The format is
described in https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html.
"""

from __future__ import annotations

import io
import math
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from models.contracts.errors import BundleError
from models.contracts.files import AGAIN

MAX_HEADER = 4_096
"""Bytes of a header at most; NumPy writes 118 for the arrays of a bundle."""

MAX_INFLATION = 50
"""Bytes that one byte of a ``.npz`` file may become; what is beyond was made to fill the memory."""

_MAGIC = b"\x93NUMPY"
_WIDTHS = {"|u1": 1, "<i4": 4, "<i8": 8, "<f4": 4}
_NAMES = {"|u1": "uint8", "<i4": "int32", "<i8": "int64", "<f4": "float32", "<U": "text"}
_UNICODE = re.compile(r"<U([0-9]{1,4})")
# As NumPy writes it. It is an expression of Python, but to have Python read any other may print warnings.
_RECORD = re.compile(
    r"\{'descr': '([^']*)', 'fortran_order': (True|False), "
    r"'shape': \(((?:[0-9]+,|[0-9]+(?:, [0-9]+)+)?)\), ?\}\s*"
)


@dataclass(frozen=True, slots=True)
class Header:
    """What a NumPy file says of its array.

    Attributes:
        dtype: type of the elements as NumPy writes it, little-endian: ``<f4``, ``<i8``, ``<U12``, …
        shape: length of each axis; rows come first in memory (C order).
        offset: bytes before the first element.
    """

    dtype: str
    shape: tuple[int, ...]
    offset: int

    @property
    def width(self) -> int:
        """Bytes of one element."""
        text = _UNICODE.fullmatch(self.dtype)
        return 4 * int(text[1]) if text else _WIDTHS[self.dtype]

    @property
    def size(self) -> int:
        """Bytes of the whole file."""
        return self.offset + self.width * math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class StoredArray:
    """An array whose size is what its header promises.

    Attributes:
        header: type and shape.
        content: bytes of the elements alone, writable.
    """

    header: Header
    content: memoryview


def parse_header(start: bytes | bytearray | memoryview) -> Header:
    """Reads the header at the start of a NumPy file.

    Args:
        start: first ``MAX_HEADER`` bytes of the file, or all of a shorter one.

    Raises:
        ValueError: it is no NumPy file, or not in a form that a bundle has; the message says why.
    """
    start = bytes(start[:MAX_HEADER])
    if start[:6] != _MAGIC or len(start) < 12:
        raise ValueError("it is not a NumPy file")
    if start[6] not in (1, 2, 3):
        raise ValueError(f"it has version {start[6]} of NumPy's format")
    wide = 2 if start[6] == 1 else 4
    begin = 8 + wide
    end = begin + int.from_bytes(start[8:begin], "little")
    if end > len(start):
        raise ValueError("its header is cut off or too long")
    record = _RECORD.fullmatch(start[begin:end].decode("latin-1"))
    if record is None:
        raise ValueError("its header is damaged")
    dtype, order, axes = record.groups()
    shape = tuple(int(axis) for axis in axes.split(",") if axis)
    if not (dtype in _WIDTHS or _UNICODE.fullmatch(dtype)):
        raise ValueError(f"its elements are {dtype[:40]!r}, which a bundle never has")
    if order != "False":
        raise ValueError("its columns come first in memory")
    if any(axis >= 2**48 for axis in shape):
        raise ValueError(f"its shape is ({axes[:40]})")
    return Header(dtype, shape, end)


def check_header(
    start: bytes | bytearray | memoryview, size: int, expected: str, shape: Sequence[int]
) -> Header:
    """Reads the header of a NumPy file, which must be of a certain array and of that size.

    Args:
        start: first ``MAX_HEADER`` bytes of the file, or all of a shorter one.
        size: bytes of the whole file.
        expected: type that it must have, as in ``Header.dtype``; ``<U`` for texts of any length.
        shape: shape that it must have; -1 for an axis of any length.

    Raises:
        ValueError: it is another array, or longer or shorter than it says; the message says why.
    """
    header = parse_header(start)
    kind = "<U" if header.dtype.startswith("<U") else header.dtype
    fits = len(header.shape) == len(shape) and all(
        wanted in (-1, axis) for axis, wanted in zip(header.shape, shape, strict=True)
    )
    if kind != expected or not fits:
        raise ValueError(f"it is {_shown(header.dtype, header.shape)}, expected {_shown(expected, shape)}")
    if header.size != size:
        raise ValueError(f"it has {size:,} bytes and its header promises {header.size:,}")
    return header


def parse_array(content: bytes | bytearray, expected: str, shape: Sequence[int]) -> StoredArray:
    """Takes a whole NumPy file apart; type and shape are those of ``check_header``.

    Raises:
        ValueError: see ``check_header``.
    """
    header = check_header(content, len(content), expected, shape)
    return StoredArray(header, memoryview(content)[header.offset :])


def read_members(content: bytes, path: Path, limits: Mapping[str, int]) -> dict[str, bytearray]:
    """Takes a ``.npz`` file apart, without inflating more than it may hold.

    Args:
        content: bytes of the file.
        path: its path, for messages.
        limits: bytes that each member may have at most, by the array's name; all must be there.

    Raises:
        BundleError: it is no zip file, damaged, or has other or larger members; the message says why.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            if len(members) != len(archive.infolist()) or members.keys() != limits.keys():
                raise ValueError(f"it must hold {', '.join(sorted(limits))}, each once and nothing else")
            for name, info in members.items():
                if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise ValueError(f"{name} is compressed in a way that NumPy never uses")
                if info.file_size > limits[name]:
                    raise ValueError(
                        f"{name} has {info.file_size:,} bytes, more than the {limits[name]:,} it can need"
                    )
            if sum(info.file_size for info in members.values()) > 2**20 + MAX_INFLATION * len(content):
                raise ValueError("it would become far larger than it is")
            return {name: _inflated(archive, info) for name, info in members.items()}
    except Exception as error:  # a damaged archive raises nearly anything
        raise BundleError(f"{path} cannot be read ({str(error)[:200]}): {AGAIN}") from error


def _inflated(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytearray:
    with archive.open(info) as stream:
        # No more than was promised: asked for everything, ``zipfile`` inflates all before it looks at that.
        return bytearray(stream.read(info.file_size + 1))


def _shown(dtype: str, shape: Sequence[int]) -> str:
    axes = ", ".join("any" if axis < 0 else str(axis) for axis in shape)
    return f"{_NAMES.get(dtype, dtype)} ({axes}{',' if len(shape) == 1 else ''})"
