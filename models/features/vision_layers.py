"""Encodes pictures by the hidden states of a frozen vision transformer, ViT or the vision tower of CLIP."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from models.features.errors import FeatureError
from models.features.hidden_states import first_tokens, kept_layers
from models.features.pictures import encode_pictures
from models.features.pretrained import identity, load_parts, picture_processor, weights_of

MODEL_TYPES = ("vit", "clip", "clip_vision_model")
"""Types of transformers models whose first vision token is [CLS]."""


class VisionLayersEncoder:
    """Computes the states of the first token after every second layer, the embedding first.

    The last of them is that before the model's final LayerNorm, as transformers gives it.

    Args:
        name: name or path of a transformers ViT or CLIP model, such as ``google/vit-base-patch16-224``.

    Raises:
        FeatureError: the model cannot be loaded, is of another type, or has an odd number of layers.
    """

    def __init__(self, name: str) -> None:
        from transformers import AutoModel  # takes seconds

        self._processor, model = load_parts(
            "image encoder",
            name,
            [picture_processor, weights_of(AutoModel)],
            "name a folder that holds a ViT or CLIP model with --set features.image_encoder=FOLDER",
        )
        if model.config.model_type not in MODEL_TYPES:
            raise FeatureError(
                f"the image encoder {name!r} is of type {model.config.model_type}: image_output layers reads "
                "ViT and CLIP alone"
            )
        self._model = getattr(model, "vision_model", model)  # CLIP reads texts too
        self._layers = kept_layers("image encoder", name, self._model.config)
        self.identity = f"layers {identity(name)}"

    def encode(self, inputs: Sequence[str]) -> NDArray[np.float16]:
        """Encodes paths: float16 [paths, K, w]; rows of NaN for a picture that cannot be read."""
        encoded = np.empty((len(inputs), self._layers, self._model.config.hidden_size), dtype=np.float16)
        encode_pictures(inputs, encoded, self._embed)
        return encoded

    @torch.inference_mode()
    def _embed(self, pictures: Sequence[object]) -> NDArray[np.float16]:
        pixels = self._processor(images=pictures, return_tensors="pt")["pixel_values"]  # [B, 3, h, w]
        return first_tokens(self._model(pixel_values=pixels, output_hidden_states=True).hidden_states)
