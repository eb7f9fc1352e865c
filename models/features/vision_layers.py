"""Encodes pictures by the hidden states of a frozen vision transformer: ViT, or the vision tower of CLIP."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models.features.errors import FeatureError
from models.features.layers import every_second_layer, require_pairs_of_layers
from models.features.picture_batches import encode_pictures
from models.features.pretrained import first_line, identity, quiet


class VisionLayers:
    """Computes the first token's hidden state after layers 0, 2, 4, … of each picture.

    Args:
        name: name or path of a transformers vision model, such as ``google/vit-base-patch16-224``.

    Raises:
        FeatureError: the model cannot be loaded, or has an odd number of layers.
    """

    def __init__(self, name: str) -> None:
        from transformers import AutoConfig, AutoImageProcessor, AutoModel, CLIPVisionModel  # takes seconds

        try:
            with quiet():
                config = AutoConfig.from_pretrained(name)
                # A whole CLIP has a text tower too, which pictures do not need.
                kind = CLIPVisionModel if config.model_type.startswith("clip") else AutoModel
                self._processor = AutoImageProcessor.from_pretrained(name)
                self._model = kind.from_pretrained(name).eval()
        except (OSError, ValueError) as error:
            raise FeatureError(f"the image encoder {name!r} cannot be loaded: {first_line(error)}") from error
        layers = getattr(self._model.config, "num_hidden_layers", 0)
        if not layers:
            raise FeatureError(f"the image encoder {name!r} is no transformer with layers to read")
        require_pairs_of_layers(name, layers)
        self.identity = f"layers {identity(name, name, self._model.config)}"

    def encode(self, inputs: Sequence[str]) -> NDArray[Any]:
        """Encodes paths: float16 [paths, layers, f]; NaN for a picture that cannot be read."""
        return encode_pictures(inputs, self._embed)

    def _embed(self, pictures: Sequence[object]) -> NDArray[np.float16]:
        with torch.inference_mode():
            pixels = self._processor(images=pictures, return_tensors="pt")["pixel_values"]
            states = self._model(pixel_values=pixels, output_hidden_states=True).hidden_states
        return np.asarray(every_second_layer(states).numpy())
