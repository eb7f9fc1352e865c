"""Opens pictures in batches and hands those that can be read to an encoder."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.contracts.picture import PictureError, open_picture, read_picture
from models.features.errors import FeatureError
from models.shown_progress import ShownProgress

log = logging.getLogger(__name__)

BATCH = 32
"""Pictures that are decoded and encoded at once."""


def encode_pictures(paths: Sequence[str], embed: Callable[[Sequence[object]], NDArray[Any]]) -> NDArray[Any]:
    """Encodes the pictures that can be read.

    Args:
        paths: files of pictures.
        embed: function of opened pictures [B] to vectors [B, …].

    Returns:
        [paths, …] of the vectors' type; NaN for a picture that cannot be read.

    Raises:
        FeatureError: none can be read.
    """
    encoded: NDArray[Any] | None = None
    with ShownProgress("pictures", len(paths), "picture") as progress:
        for at in range(0, len(paths), BATCH):
            readable = {}
            some = paths[at : at + BATCH]
            for index, path in enumerate(some, at):
                try:
                    readable[index] = open_picture(read_picture(Path(path)))
                except PictureError as error:
                    log.info("%s: %s", path, error)
            if readable:
                vectors = embed(list(readable.values()))
                if encoded is None:
                    encoded = np.full((len(paths), *vectors.shape[1:]), np.nan, dtype=vectors.dtype)
                encoded[list(readable)] = vectors
            progress.update(len(some))
    if encoded is None:
        raise FeatureError("no picture can be read: train without image (tower.modalities)")
    return encoded
