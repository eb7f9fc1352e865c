"""Names the folders and files of a bundle, and says which names others may have (standard library only)."""

from __future__ import annotations

import re
from typing import Literal

SCHEMA_VERSION = 1
"""Version of the bundle format that this code writes; a bundle of another version is refused."""

# Names of folders and files; the docstring of models.contracts has the tree.
CATALOGUE = "catalogue"
BACKBONES = "backbones"
MANIFEST = "manifest.json"
ITEMS = "items.jsonl"
HISTORIES = "histories.npz"
POPULARITY = "popularity.npy"
IMAGES = "images"
CAPTIONS = "captions"
ITEM_VECTORS = "item_vectors.npy"
ENCODER = "encoder.onnx"
USER_VECTORS = "user_vectors.npy"
# Names of the ONNX graph's input and output.
ENCODER_INPUT = "history"
ENCODER_OUTPUT = "user_vector"

TextView = Literal["raw", "enhanced"]

MAX_FILE_NAME = 255
"""Bytes of a file name in UTF-8 at most, as file systems have it."""


def is_backbone_name(name: str) -> bool:
    """Whether a backbone or family can have this name: it becomes a folder, a query parameter, a label."""
    return re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,63}", name) is not None


def is_captioner_name(name: str) -> bool:
    """Whether a captioner can have this name: it becomes a file, a setting and a part of cache keys."""
    return re.fullmatch(r"\w[\w.-]{0,127}", name, re.ASCII) is not None


def is_sha256(text: str) -> bool:
    """Whether this is a SHA-256 as a bundle writes it: 64 lower-case hexadecimal digits."""
    return re.fullmatch("[0-9a-f]{64}", text) is not None


def is_file_name(name: str) -> bool:
    """Whether this is the name of a file in one folder on every system, and no path out of it."""
    return (
        name.isprintable()  # neither control characters nor halves of surrogate pairs
        and name not in ("", ".", "..")
        and "/" not in name
        and "\\" not in name
        and len(name.encode()) <= MAX_FILE_NAME
    )
