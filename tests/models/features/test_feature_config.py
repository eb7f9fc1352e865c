from __future__ import annotations

from typing import Any

import pytest
import toy_models

from models.features import described
from models.features.config import FeatureConfig
from models.training.config import ConfigError


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"text_pooling": "layers"}, "standardise must be false with layers"),
        ({"image_output": "layers", "image_encoder": "a/vit"}, "standardise must be false with layers"),
        ({"image_output": "layers", "standardise": False}, "needs a ViT or CLIP as image_encoder"),
        ({"text_tokens": 1}, "text_tokens must be at least 2"),
        ({"text_pooling": "max"}, "text_pooling"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(settings: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        toy_models.config(features=settings)


@pytest.mark.parametrize(
    ("modality", "features"),
    [
        ("text", {"text_pooling": "layers"}),
        ("image", {"image_output": "layers", "image_encoder": "google/vit-base-patch16-224"}),
    ],
)
def test_hidden_states_are_refused_by_a_family_that_reads_one_vector(
    modality: str, features: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError, match="morec reads one vector of a text or picture"):
        toy_models.config(tower={"modalities": [modality]}, features={**features, "standardise": False})
    toy_models.config(features={**features, "standardise": False})  # ids alone read neither


@pytest.mark.parametrize(
    ("settings", "modalities", "words"),
    [
        ({}, ["id"], ""),
        ({}, ["text"], "text minilm (mean)"),
        ({}, ["id", "text", "image"], "text minilm (mean), pictures descriptor"),
        (
            {
                "text_encoder": "bert-base-uncased",
                "text_pooling": "cls",
                "text_tokens": 30,
                "image_encoder": "openai/clip-vit-base-patch32",
            },
            ["text", "image"],
            "text bert-base-uncased (CLS, 30 tokens), pictures openai/clip-vit-base-patch32 (projected)",
        ),
        (
            {
                "text_pooling": "layers",
                "image_encoder": "google/vit-base-patch16-224",
                "image_output": "layers",
                "standardise": False,
            },
            ["text", "image"],
            "text minilm (CLS of every second layer), "
            "pictures google/vit-base-patch16-224 (CLS of every second layer)",
        ),
    ],
)
def test_the_encoders_are_described_in_words(
    settings: dict[str, Any], modalities: list[str], words: str
) -> None:
    assert described(FeatureConfig(**settings), modalities) == words
