"""Ties a run to its data by a hash of everything that the run's configuration reads."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np

from models.contracts.picture import PictureError, open_picture, read_picture
from models.data.dataset import Dataset
from models.networks.config import Config
from models.shown_progress import ShownProgress


def fingerprint(dataset: Dataset, config: Config) -> str:
    """Hashes what a training with ``config`` reads into sixteen hex digits.

    That is ids, titles, keywords, categories and histories; in the enhanced view the captions of its
    captioner; with the image modality the bytes of the pictures. A catalogue has the fingerprint of the data
    set that it was written from.
    """
    # An empty text is left out of a catalogue, so it counts as none.
    names = [
        [item.item_id, item.title or "", item.keywords or "", *item.categories] for item in dataset.items
    ]
    captions = dataset.captions.get(config.features.captioner or "", {})
    pictures = _digests(dataset) if "image" in config.modalities else {}
    contents = [names, sorted(captions.items()), sorted(pictures.items())]
    digest = hashlib.sha256(json.dumps(contents).encode())
    # The length goes first, so that an item that moves to the next user's history is seen.
    for history in dataset.histories:
        digest.update(np.asarray([len(history), *history], dtype="<i4").tobytes())
    return digest.hexdigest()[:16]


def _digests(dataset: Dataset) -> dict[int, str]:
    """Hashes pictures: item row -> SHA-256, without those that a catalogue leaves out."""
    named = {item.image for item in dataset.items if item.image}
    digests = {}
    if dataset.images:
        with ShownProgress("pictures checked", total=len(named), unit="picture") as progress:
            for name in named:
                digests[name] = _digest(dataset.images / name)
                progress.update()
    pairs = ((row, digests.get(item.image or "")) for row, item in enumerate(dataset.items))
    return {row: digest for row, digest in pairs if digest is not None}


def _digest(path: Path) -> str | None:
    try:
        content = read_picture(path)
        open_picture(content)
    except PictureError:
        return None
    return hashlib.sha256(content).hexdigest()
