"""Reads the pictures of items in batches, for every image encoder."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.contracts.picture import PictureError, open_picture, read_picture
from models.shown_progress import ShownProgress

log = logging.getLogger(__name__)

BATCH = 32
"""Pictures that are decoded and encoded at once."""


def encode_pictures(
    paths: Sequence[str],
    encoded: NDArray[Any],
    embed: Callable[[Sequence[Image.Image]], NDArray[Any]],
    batch: int = BATCH,
) -> None:
    """Encodes the pictures of files, with NaN for those that cannot be read.

    Args:
        paths: paths of pictures.
        encoded: array to fill, [paths, …].
        embed: turns RGB pictures into the rows of a batch, [B, …].
        batch: number of pictures that are in memory at once.
    """
    encoded[:] = np.nan
    with ShownProgress("pictures", total=len(paths), unit="picture") as progress:
        for at in range(0, len(paths), batch):
            named = paths[at : at + batch]
            readable = {}
            for index, path in enumerate(named, at):
                try:
                    readable[index] = open_picture(read_picture(Path(path)))
                except PictureError as error:
                    log.info("%s: %s", path, error)
            if readable:
                encoded[list(readable)] = embed(list(readable.values()))
            progress.update(len(named))
