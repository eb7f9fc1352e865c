from __future__ import annotations

from typing import Any

import pytest
import toy_models

from models.features.config import FeatureConfig
from models.training.config import ConfigError


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"image_output": "layers"}, "needs a ViT or CLIP as image_encoder"),
        ({"text_tokens": 1}, "text_tokens must be at least 2"),
        ({"text_pooling": "max"}, "text_pooling"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(settings: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        toy_models.config(features=settings)


@pytest.mark.parametrize(
    ("settings", "modalities", "words"),
    [
        ({}, ["id"], ""),
        ({}, ["text"], "titles by minilm (mean, 256 tokens)"),
        ({}, ["id", "text", "image"], "titles by minilm (mean, 256 tokens), pictures by descriptor"),
        (
            {"text_view": "enhanced", "captioner": "gpt-4o"},
            ["text"],
            "titles with captions of gpt-4o by minilm (mean, 256 tokens)",
        ),
        (
            {
                "text_encoder": "bert-base-uncased",
                "text_pooling": "cls",
                "text_tokens": 30,
                "image_encoder": "openai/clip-vit-base-patch32",
            },
            ["text", "image"],
            "titles by bert-base-uncased (CLS, 30 tokens), "
            "pictures by openai/clip-vit-base-patch32 (projected)",
        ),
        (
            {
                "text_pooling": "layers",
                "image_encoder": "google/vit-base-patch16-224",
                "image_output": "layers",
                "standardise": False,
            },
            ["text", "image"],
            "titles by minilm (CLS of every second layer, 256 tokens), "
            "pictures by google/vit-base-patch16-224 (CLS of every second layer)",
        ),
    ],
)
def test_the_encoders_are_described_in_words(
    settings: dict[str, Any], modalities: list[str], words: str
) -> None:
    assert FeatureConfig(**settings).described(modalities) == words
