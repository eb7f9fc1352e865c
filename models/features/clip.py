"""Encodes pictures with a frozen CLIP model (Radford et al., ICML 2021) through transformers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from models.features.pictures import encode_pictures
from models.features.pretrained import identity, load_parts, picture_processor, weights_of


class ClipEncoder:
    """Computes CLIP's projected picture embedding, at unit length.

    Args:
        name: name or path of a transformers CLIP model.

    Raises:
        FeatureError: the model cannot be loaded.
    """

    def __init__(self, name: str) -> None:
        from transformers import CLIPVisionModelWithProjection  # takes seconds

        self._processor, self._model = load_parts(
            "image encoder",
            name,
            [picture_processor, weights_of(CLIPVisionModelWithProjection)],
            "name a folder that holds a CLIP model, or take the one that needs no download with "
            "--set features.image_encoder=descriptor",
        )
        self.identity = f"clip-2 {identity(name)}"

    def encode(self, inputs: Sequence[str]) -> NDArray[np.float32]:
        """Encodes paths: float32 [paths, f]; a row of NaN for a picture that cannot be read."""
        encoded = np.empty((len(inputs), self._model.config.projection_dim), dtype=np.float32)
        encode_pictures(inputs, encoded, self._embed)
        return encoded

    def _embed(self, pictures: Sequence[object]) -> NDArray[np.float32]:
        with torch.inference_mode():
            pixels = self._processor(images=pictures, return_tensors="pt")["pixel_values"]
            embedded = functional.normalize(self._model(pixel_values=pixels).image_embeds, dim=-1)  # [B, f]
        return np.asarray(embedded.numpy(), dtype=np.float32)
