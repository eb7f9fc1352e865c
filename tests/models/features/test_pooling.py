"""What is kept of an encoder: its mean, its first token, or that token's states after every second layer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import toy_models
from test_text_and_clip import dataset, tiny_clip, tiny_text_model

from models.features import FeatureError, Features, item_features
from models.features.config import FeatureConfig
from models.training.config import ConfigError

transformers = pytest.importorskip("transformers", reason="needs the extra `features`")


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test asks a model hub for anything."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def features(folder: Path, modality: str, **settings: Any) -> Features:
    config = FeatureConfig(**settings)
    return item_features(dataset(folder / "photos"), config, [modality], folder / "cache")[modality]


def states_of(model: Path, text: str) -> list[np.ndarray]:
    """The first token's hidden states of one text, by transformers alone."""
    import torch

    tokens = transformers.AutoTokenizer.from_pretrained(model)(text, return_tensors="pt")
    with torch.inference_mode():
        states = transformers.AutoModel.from_pretrained(model).eval()(**tokens, output_hidden_states=True)
    return [each[0, 0].numpy() for each in states.hidden_states]


def test_cls_is_the_last_state_of_the_first_token_as_it_is(tmp_path: Path) -> None:
    model = tiny_text_model(tmp_path / "model", layers=2)
    made = features(tmp_path, "text", text_encoder=str(model), text_pooling="cls", standardise=False)
    np.testing.assert_allclose(made.values[0], states_of(model, "red mug")[-1], atol=1e-5)
    assert made.values.dtype == np.float32
    assert (made.values[3] == 0).all()
    assert made.present.tolist() == [True, True, True, False]


def test_layers_are_the_states_of_the_embedding_and_every_second_layer(tmp_path: Path) -> None:
    model = tiny_text_model(tmp_path / "model", layers=4)
    settings = {"text_encoder": str(model), "text_pooling": "layers", "standardise": False}
    made = features(tmp_path, "text", **settings)
    assert (made.values.shape, made.values.dtype) == ((4, 3, 16), np.float16)
    states = states_of(model, "blue lamp")
    np.testing.assert_allclose(made.values[1], [states[0], states[2], states[4]], atol=2e-3)
    again = features(tmp_path, "text", **settings)  # from the cache
    np.testing.assert_array_equal(made.values, again.values)
    standardised = features(tmp_path, "text", **{**settings, "standardise": True})
    np.testing.assert_allclose(standardised.values[:3].mean(axis=0), 0, atol=1e-2)
    assert len(list((tmp_path / "cache").iterdir())) == 1  # one array for both


def test_a_text_is_read_up_to_its_number_of_tokens(tmp_path: Path) -> None:
    model = tiny_text_model(tmp_path / "model", layers=2)
    settings = {"text_encoder": str(model), "text_pooling": "cls", "standardise": False}
    short = features(tmp_path, "text", text_tokens=3, **settings).values
    np.testing.assert_allclose(short[0], states_of(model, "red")[-1], atol=1e-5)
    assert not np.allclose(short[0], features(tmp_path, "text", text_tokens=4, **settings).values[0])


def vit(folder: Path) -> Path:
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    transformers.ViTModel(transformers.ViTConfig(image_size=32, patch_size=8, **sizes)).save_pretrained(
        folder
    )
    transformers.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", ["vit", "clip"])
def test_pictures_have_the_layers_of_a_vision_transformer(kind: str, tmp_path: Path) -> None:
    model = vit(tmp_path / "model") if kind == "vit" else tiny_clip(tmp_path / "model", layers=2)
    made = features(tmp_path, "image", image_encoder=str(model), image_output="layers", standardise=False)
    assert (made.values.shape, made.values.dtype) == ((4, 2, 16), np.float16)
    assert made.present.tolist() == [True, True, False, False]
    assert not np.allclose(made.values[0], made.values[1])


def test_an_encoder_with_an_odd_number_of_layers_is_refused(tmp_path: Path) -> None:
    model = tiny_text_model(tmp_path / "model", layers=3)
    with pytest.raises(FeatureError, match="has 3 layers, and every second one is read"):
        features(tmp_path, "text", text_encoder=str(model), text_pooling="layers")
    with pytest.raises(ConfigError, match="the descriptor of pictures has no layers"):
        toy_models.config(tower={"modalities": ["image"]}, features={"image_output": "layers"})


def test_a_configuration_says_which_encoders_made_its_features() -> None:
    config = FeatureConfig(text_encoder="bert-base-uncased", text_pooling="cls", text_tokens=30)
    assert config.described(["id"]) == ""
    assert config.described(["text", "image"]) == (
        "titles by bert-base-uncased (CLS, 30 tokens), pictures by descriptor"
    )
    enhanced = FeatureConfig(text_view="enhanced", captioner="gpt-4o")
    assert enhanced.described(["text"]) == "titles with captions of gpt-4o by minilm (mean, 256 tokens)"
