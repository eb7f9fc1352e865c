"""Encodes pictures with a frozen CLIP model (Radford et al., ICML 2021) through transformers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from models.features.errors import FeatureError
from models.features.picture_batches import encode_pictures
from models.features.pretrained import first_line, identity, quiet


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
            raise FeatureError(
                f"the image encoder {name!r} cannot be loaded: {first_line(error)}; the one that needs no "
                "download is --set features.image_encoder=descriptor"
            ) from error
        self.identity = f"clip-2 {identity(name, name, self._model.config)}"

    def encode(self, inputs: Sequence[str]) -> NDArray[np.float32]:
        """Encodes paths: float32 [paths, f]; a row of NaN for a picture that cannot be read."""
        return encode_pictures(inputs, self._embed)

    def _embed(self, pictures: Sequence[object]) -> NDArray[np.float32]:
        with torch.inference_mode():
            pixels = self._processor(images=pictures, return_tensors="pt")["pixel_values"]
            embedded = functional.normalize(self._model(pixel_values=pixels).image_embeds, dim=-1)  # [B, f]
        return np.asarray(embedded.numpy(), dtype=np.float32)
