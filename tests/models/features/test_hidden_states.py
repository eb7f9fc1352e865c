from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_encoders
from PIL import Image
from small_data import rows, save_picture

from models.contracts import Item
from models.data.dataset import Dataset
from models.features import FeatureError, Features, item_features
from models.features.config import FeatureConfig

transformers = pytest.importorskip("transformers", reason="needs the extra `features`")


def dataset(folder: Path, *more: Item) -> Dataset:
    save_picture(folder / "red.png", (200, 30, 30))
    save_picture(folder / "blue.png", (30, 30, 200))
    items = (
        Item("A", title="red mug", image="red.png"),
        Item("B", title="blue lamp", image="blue.png"),
        *more,
    )
    return Dataset("few", items, ("u",), (rows(*range(len(items))),), images=folder)


def texts_of(data: Dataset, cache: Path, model: Path, pooling: Any = "layers", **settings: Any) -> Features:
    config = FeatureConfig(str(model), text_pooling=pooling, standardise=False, **settings)
    return item_features(data, config, ["text"], cache)["text"]


def pictures_of(data: Dataset, cache: Path, model: Path) -> Features:
    config = FeatureConfig(image_encoder=str(model), image_output="layers", standardise=False)
    return item_features(data, config, ["image"], cache)["image"]


def literal_states(layers: Any, run: Any) -> np.ndarray[Any, Any]:
    """What goes into every second layer and what comes out of the last, by its first token: [K, w]."""
    seen: list[Any] = []
    hooks = [layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0])) for layer in layers]
    hooks.append(layers[-1].register_forward_hook(lambda _, inputs, output: seen.append(output)))
    run()
    for hook in hooks:
        hook.remove()
    states = [each[0] if isinstance(each, tuple) else each for each in seen]
    return np.stack([states[at][0, 0].detach().numpy() for at in range(0, len(states), 2)])


def test_the_layers_of_a_text_are_the_first_tokens_states_before_and_after_every_second(
    tmp_path: Path,
) -> None:
    import torch

    model = tiny_encoders.text_model(tmp_path / "model", layers=4)
    features = texts_of(dataset(tmp_path / "photos"), tmp_path / "cache", model)
    assert (features.values.shape, features.values.dtype) == ((2, 3, 16), np.float16)
    bert = transformers.BertModel.from_pretrained(model).eval()
    ids = torch.tensor([[2, 5, 7, 3]])  # [CLS] blue lamp [SEP]
    expected = literal_states(bert.encoder.layer, lambda: bert(input_ids=ids))
    np.testing.assert_allclose(features.values[1], expected, atol=2e-3)


def test_cls_is_the_last_of_the_layers_and_not_at_unit_length(tmp_path: Path) -> None:
    data, model = dataset(tmp_path / "photos"), tiny_encoders.text_model(tmp_path / "model", layers=2)
    first = texts_of(data, tmp_path / "cache", model, "cls").values
    assert first.dtype == np.float32
    np.testing.assert_allclose(first, texts_of(data, tmp_path / "cache", model).values[:, -1], atol=2e-3)
    assert (np.linalg.norm(first, axis=1) > 1.5).all()  # of a LayerNorm over 16 numbers: about 4


@pytest.mark.parametrize("make", [tiny_encoders.vit, tiny_encoders.whole_clip, tiny_encoders.clip])
def test_the_layers_of_a_picture_are_those_of_vit_or_of_the_vision_tower_of_clip(
    make: Any, tmp_path: Path
) -> None:
    import torch

    model = make(tmp_path / "model", layers=4)
    data = dataset(tmp_path / "photos")
    features = pictures_of(data, tmp_path / "cache", model)
    assert (features.values.shape, features.values.dtype) == ((2, 3, 16), np.float16)
    whole = transformers.AutoModel.from_pretrained(model).eval()
    vision = getattr(whole, "vision_model", whole)
    pixels = np.asarray(Image.open(tmp_path / "photos" / "blue.png").convert("RGB"))[0, 0] / 255
    if make is tiny_encoders.vit:
        mean, deviation, side = np.full(3, 0.5), np.full(3, 0.5), 224
    else:  # of the published CLIP
        mean, deviation, side = np.array(CLIP_MEAN), np.array(CLIP_DEVIATION), 32
    plain = torch.tensor((pixels - mean) / deviation, dtype=torch.float32)[None, :, None, None]
    layers = vision.layers if hasattr(vision, "layers") else vision.encoder.layers
    expected = literal_states(layers, lambda: vision(pixel_values=plain.expand(1, 3, side, side)))
    np.testing.assert_allclose(features.values[1], expected, atol=5e-3)


CLIP_MEAN, CLIP_DEVIATION = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def test_cached_layers_are_mapped_from_their_file_and_a_network_can_take_them(tmp_path: Path) -> None:
    import torch

    data, cache = dataset(tmp_path / "photos"), tmp_path / "cache"
    model = tiny_encoders.text_model(tmp_path / "model", layers=2)
    first = texts_of(data, cache, model).values
    again = texts_of(data, cache, model).values
    assert isinstance(again, np.memmap)
    np.testing.assert_array_equal(first, again)
    assert (
        torch.from_numpy(again).dtype == torch.float16
    )  # a warning about memory that is read-only is an error
    (path,) = cache.iterdir()
    path.write_bytes(path.read_bytes()[:-1])
    np.testing.assert_array_equal(first, texts_of(data, cache, model).values)


def test_items_without_a_text_or_picture_have_zero_rows_in_every_layer(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "broken.png").write_bytes(b"no picture")
    data = dataset(tmp_path / "photos", Item("C", image="broken.png"), Item("D", title="red lamp"))
    texts = texts_of(data, tmp_path / "cache", tiny_encoders.text_model(tmp_path / "model", layers=2))
    pictures = pictures_of(data, tmp_path / "cache", tiny_encoders.vit(tmp_path / "vit", layers=2))
    assert texts.present.tolist() == [True, True, False, True]
    assert pictures.present.tolist() == [True, True, False, False]
    assert texts.values.any(axis=(1, 2)).tolist() == texts.present.tolist()
    assert pictures.values.any(axis=(1, 2)).tolist() == pictures.present.tolist()


def test_hidden_states_are_standardised_by_layer_and_number_when_asked_for(tmp_path: Path) -> None:
    data, model = dataset(tmp_path / "photos"), tiny_encoders.text_model(tmp_path / "model", layers=2)
    config = FeatureConfig(str(model), text_pooling="layers")
    states = item_features(data, config, ["text"], tmp_path / "cache")["text"].values
    assert states.dtype == np.float32
    np.testing.assert_allclose(states.mean(axis=0), 0, atol=1e-6)
    assert (states[:, 0] == 0).all()  # [CLS] before the first layer is the same for all texts
    spread = states[:, 1].std(axis=0)  # of random weights some states agree in 16 bits
    assert ((abs(spread - 1) < 1e-3) | (spread == 0)).all()
    assert (spread > 0.9).sum() > 8
    texts_of(data, tmp_path / "cache", model)
    assert len(list((tmp_path / "cache").iterdir())) == 1  # both are made from one cached array


def test_an_odd_number_of_layers_is_refused(tmp_path: Path) -> None:
    data = dataset(tmp_path / "photos")
    with pytest.raises(
        FeatureError, match=r"text encoder .* has 3 layers: every second one of an odd number"
    ):
        texts_of(data, tmp_path / "cache", tiny_encoders.text_model(tmp_path / "model", layers=3))
    with pytest.raises(FeatureError, match=r"image encoder .* has 1 layers"):
        pictures_of(data, tmp_path / "cache", tiny_encoders.clip(tmp_path / "clip", layers=1))


def test_a_model_that_is_neither_vit_nor_clip_has_no_layers_of_pictures(tmp_path: Path) -> None:
    model = tiny_encoders.text_model(tmp_path / "model", layers=2)
    tiny_encoders.vit(tmp_path / "vit")
    (model / "preprocessor_config.json").write_bytes(
        (tmp_path / "vit" / "preprocessor_config.json").read_bytes()
    )
    with pytest.raises(FeatureError, match="is of type bert: image_output layers reads ViT and CLIP alone"):
        pictures_of(dataset(tmp_path / "photos"), tmp_path / "cache", model)
