"""Computes the features of a whole catalogue, one array per modality.

Arrays are cached under a name with a hash of everything that they were made from (encoder, its version, texts
or picture bytes), so that a changed title or picture never gets an old feature.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from models.contracts import Item
from models.contracts.one_writer import BusyError
from models.contracts.picture import PictureError, read_picture
from models.data.dataset import Dataset
from models.features.config import DESCRIPTOR, FeatureConfig
from models.features.descriptor import Descriptor
from models.features.errors import FeatureError
from models.saved_arrays import Floats, map_array, read_matrix, save_matrix
from models.shown_progress import ShownProgress

log = logging.getLogger(__name__)

_NAMES = {"text": "text", "image": "picture"}
"""Modalities in the words of messages."""

_WITHOUT = {
    "text": "train without text (tower.modalities or network.modalities), as --model sasrec does",
    "image": "train without image (tower.modalities or network.modalities), as --model morec-t does",
}
"""What to do without a modality, a part of a sentence."""

_FOLDER = {"text": "", "image": ", or name the folder of pictures with `models data --pictures`"}
"""What else to do about a catalogue in which no item has the modality, the end of a sentence."""


@dataclass(frozen=True)
class Features:
    """The frozen features of one modality of a catalogue.

    Attributes:
        values: float32 [items, f]; of hidden states [items, K, w], K layers of width w. Standardised, of zero
            mean and unit variance over the items that have the modality. Not standardised they are as the
            encoder gave them, hidden states in float16, and mapped from the cache where every item has some.
            Zeros for items without the modality (a network gives those what it will).
        present: bool [items], True where the item has the modality.
    """

    values: NDArray[Any]
    present: NDArray[np.bool_]


class FeatureEncoder(Protocol):
    """Turns texts or picture files into vectors.

    Attributes:
        identity: name and version of the weights; part of the cached array's name.
    """

    identity: str

    def encode(self, inputs: Sequence[str]) -> NDArray[Any]:
        """Encodes texts or paths, with NaN for a picture that cannot be read.

        Returns:
            float32 [inputs, f], or float16 [inputs, K, w] from an encoder of hidden states.
        """


def item_features(
    dataset: Dataset, config: FeatureConfig, modalities: Sequence[str], cache: Path
) -> dict[str, Features]:
    """Computes the frozen features of the modalities that a model reads.

    Args:
        dataset: items and pictures.
        config: encoders and text view.
        modalities: names of modalities; ``text`` and ``image`` have features, ``id`` has none.
        cache: folder of cached arrays, made if missing.

    Raises:
        FeatureError: an encoder cannot be loaded, or no item has the modality.
    """
    features = {}
    if "text" in modalities:
        texts = item_texts(dataset, config)
        encoded, present = _encoded(
            "text", texts, texts, lambda: _text_encoder(config), cache, states=config.text_pooling == "layers"
        )
        features["text"] = _laid_out(encoded, present, config.standardise)
    if "image" in modalities:
        paths, digests = _image_files(dataset)
        encoded, present = _encoded(
            "image",
            paths,
            digests,
            lambda: _image_encoder(config),
            cache,
            states=config.image_output == "layers",
        )
        features["image"] = _laid_out(encoded, present, config.standardise)
    return features


def item_texts(dataset: Dataset, config: FeatureConfig) -> list[str | None]:
    """Joins the text of every item; None for an item without one (an id is not a text).

    The raw view is the title, else the keywords, followed by the categories if so configured; for an item
    without either it is the categories. The enhanced view adds the caption, where there is one.
    ``text_joiner`` stands between them.

    Raises:
        FeatureError: the data set has no captions by that captioner.
    """
    captions: Mapping[int, str] = {}
    if config.captioner is not None:
        captions = dataset.captions.get(config.captioner, {})
        if not captions:
            known = ", ".join(dataset.captions) or "none"
            raise FeatureError(
                f"{dataset.name} has no captions by {config.captioner!r} (there are: {known}); make some "
                "with `python -m service enhance` and train on the bundle with --bundle"
            )
    return [_text(item, captions.get(row), config) for row, item in enumerate(dataset.items)]


def _text(item: Item, caption: str | None, config: FeatureConfig) -> str | None:
    name = item.title or item.keywords
    taxonomy = ", ".join(item.categories) if config.categories or not name else None
    return config.text_joiner.join(part for part in (name, taxonomy, caption) if part) or None


def _image_files(dataset: Dataset) -> tuple[list[str | None], list[str | None]]:
    """Returns the paths of the items' pictures and their SHA-256; None without a file that can be read."""
    digests: dict[Path, str | None] = {}
    paths = [dataset.images / item.image if dataset.images and item.image else None for item in dataset.items]
    with ShownProgress("pictures found", total=len(paths), unit="picture") as progress:
        for path in paths:
            if path is not None and path not in digests:
                digests[path] = _digest(path)
            progress.update()
    found = [None if path is None else digests[path] for path in paths]
    return [str(path) if digest else None for path, digest in zip(paths, found, strict=True)], found


def _digest(path: Path) -> str | None:
    try:
        return hashlib.sha256(read_picture(path)).hexdigest()
    except PictureError as error:
        log.info("%s: %s", path, error)
    return None


def _text_encoder(config: FeatureConfig) -> FeatureEncoder:
    from models.features.text import TextEncoder  # transformers takes seconds to import

    return TextEncoder(config.text_encoder, config.text_pooling, config.text_tokens)


def _image_encoder(config: FeatureConfig) -> FeatureEncoder:
    if config.image_encoder == DESCRIPTOR:
        return Descriptor()
    # transformers takes seconds to import
    if config.image_output == "layers":
        from models.features.vision_layers import VisionLayersEncoder

        return VisionLayersEncoder(config.image_encoder)
    from models.features.clip import ClipEncoder

    return ClipEncoder(config.image_encoder)


def _encoded(
    kind: str,
    inputs: Sequence[str | None],
    contents: Sequence[str | None],
    load: Callable[[], FeatureEncoder],
    cache: Path,
    *,
    states: bool,
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Encodes the inputs that exist, through the cache.

    Args:
        kind: ``text`` or ``image``.
        inputs: texts, or paths of pictures; None for an item without one.
        contents: texts, or digests of the pictures, that the name of the cached array is made from.
        load: function that loads the encoder.
        cache: folder of cached arrays.
        states: whether the encoder gives hidden states.

    Returns:
        Rows of the inputs that could be encoded, and bool [inputs], True for those.
    """
    present = np.array([each is not None for each in inputs], dtype=bool)
    if not present.any():
        raise FeatureError(f"no item has a {_NAMES[kind]}: {_WITHOUT[kind]}{_FOLDER[kind]}")
    encoder = load()
    # An item without input is None in the key, so that a picture that is added later makes a new array.
    key = json.dumps([kind, encoder.identity, contents]).encode()
    path = cache / f"{kind}-{hashlib.sha256(key).hexdigest()[:20]}.npy"
    encoded = _cached(path, int(present.sum()), states=states)
    if encoded is None:
        encoded = encoder.encode([each for each in inputs if each is not None])
        _save(path, encoded)
    readable = np.isfinite(encoded.reshape(len(encoded), -1)).all(axis=1)  # [inputs that exist]
    if readable.all():
        return encoded, present
    log.warning(
        "%ss that cannot be read: %d; their items count as items without one", _NAMES[kind], (~readable).sum()
    )
    if not readable.any():
        raise FeatureError(f"no {_NAMES[kind]} can be read: {_WITHOUT[kind]}")
    present[np.flatnonzero(present)[~readable]] = False  # positions among the inputs -> rows
    return encoded[readable], present


def _laid_out(encoded: NDArray[Any], present: NDArray[np.bool_], standardise: bool) -> Features:
    """Gives every item its row, zeros for those without the modality."""
    if standardise:
        encoded = _standardise(encoded)
    if present.all():
        return Features(encoded, present)
    values = np.zeros((len(present), *encoded.shape[1:]), dtype=encoded.dtype)
    values[present] = encoded
    return Features(values, present)


def _standardise(values: NDArray[Any]) -> Floats:
    """Shifts and scales columns to zero mean and unit variance; a column that never varies becomes zero."""
    exact = values.astype(np.float32)  # sums of half precision would overflow
    spread = exact.std(axis=0)  # [f]; dividing by inf gives the zero of a column that never varies
    exact -= exact.mean(axis=0)
    exact /= np.where(spread > 1e-6, spread, np.inf).astype(np.float32)
    return exact


def _cached(path: Path, rows: int, *, states: bool) -> NDArray[Any] | None:
    """Reads a cached array; None for one that is missing, or damaged and to be computed anew."""
    if not path.exists():
        return None
    try:
        if states:
            return map_array(path, rows, np.dtype(np.float16), dimensions=3)
        return read_matrix(path, rows)
    except ValueError as error:
        log.warning("%s is of no use (%s): it is computed anew", path, error)
    return None


def _save(path: Path, array: NDArray[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        save_matrix(path, array)
    except BusyError:  # another run has computed the same array, and saves it
        log.info("%s is saved by another run", path)
