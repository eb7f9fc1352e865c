"""Encodes pictures with a frozen CLIP model (Radford et al., ICML 2021) through transformers."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional
from tqdm import tqdm

from models.contracts.picture import PictureError, open_picture, read_picture
from models.features.errors import FeatureError
from models.features.pretrained import first_line, identity, quiet

log = logging.getLogger(__name__)

BATCH = 32
"""Pictures that are decoded and encoded at once."""


class ClipEncoder:
    """Computes CLIP's projected picture embedding, at unit length.

    Args:
        name: name or path of a transformers CLIP model.

    Raises:
        FeatureError: the model cannot be loaded.
    """

    def __init__(self, name: str) -> None:
        from transformers import CLIPImageProcessor, CLIPVisionModelWithProjection  # takes seconds

        try:
            with quiet():
                self._processor = CLIPImageProcessor.from_pretrained(name)
                self._model = CLIPVisionModelWithProjection.from_pretrained(name).eval()
        except (OSError, ValueError) as error:
            raise FeatureError(f"the image encoder {name!r} cannot be loaded: {first_line(error)}") from error
        self.identity = f"clip-2 {identity(name, name, self._model.config)}"

    def encode(self, inputs: Sequence[str]) -> NDArray[np.float32]:
        """Encodes paths: float32 [paths, f]; a row of NaN for a picture that cannot be read."""
        encoded = np.full((len(inputs), self._model.config.projection_dim), np.nan, dtype=np.float32)
        for at in tqdm(range(0, len(inputs), BATCH), desc="pictures", unit="batch", disable=None):
            readable = {}
            for index, path in enumerate(inputs[at : at + BATCH], at):
                try:
                    readable[index] = open_picture(read_picture(Path(path)))
                except PictureError as error:
                    log.info("%s: %s", path, error)
            if readable:
                encoded[list(readable)] = self._embed(list(readable.values()))
        return encoded

    def _embed(self, pictures: Sequence[object]) -> NDArray[np.float32]:
        with torch.inference_mode():
            pixels = self._processor(images=pictures, return_tensors="pt")["pixel_values"]
            embedded = functional.normalize(self._model(pixel_values=pixels).image_embeds, dim=-1)  # [B, f]
        return np.asarray(embedded.numpy(), dtype=np.float32)
