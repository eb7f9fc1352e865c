"""Trains and exports S2, recommendation from titles and captions, in both of its readings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_data import write_amazon_plus

from models.__main__ import main
from models.data import registry
from models.features import item_features
from models.training.run import Run
from service.candidates.registry import open_backbone
from service.catalogue.bundle import open_bundle

ITEMS = 40
SMALL = (
    "network.dimension=8",
    "network.feed_forward=16",
    "training.epochs=2",
    "training.sequences=16",
    "training.learning_rate=0.01",
)


class Letters:
    """An encoder that counts digits, in place of one that has to be loaded."""

    identity = "letters"
    read: list[str] = []  # noqa: RUF012

    def __init__(self, *_: Any, **__: Any) -> None:
        self.read.clear()

    def encode(self, inputs: Sequence[str]) -> np.ndarray:
        self.read.extend(inputs)
        return np.array([[text.count(c) for c in "0123456789"] for text in inputs], dtype=np.float32)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Forty items of two captioners, the first without a caption, and sixty users who step through them."""
    histories = [[str((5 * user + step) % ITEMS + 1) for step in range(4 + user % 7)] for user in range(60)]
    side: dict[str, dict[str, Any]] = {str(i): {"title": f"Thing number {i}"} for i in range(1, ITEMS + 1)}
    for i in range(2, ITEMS + 1):
        captions = {"gpt4o": f"A thing of hue {i % 9}.", "claude3": f"Hue {i % 7}."}
        side[str(i)]["image"] = {"image_path": f"{i}.png", "image_description": captions}
    return write_amazon_plus(tmp_path / "steps", histories, side)


def trained(data: Path, model: str, *options: str) -> Run:
    runs = data.parent / "runs"
    settings = [part for setting in SMALL for part in ("--set", setting)]
    assert (
        main(["train", "--data", str(data), "--model", model, "--runs", str(runs), *options, *settings]) == 0
    )
    return Run(runs / f"steps-{model}")


def test_both_readings_of_s2_are_backbones_of_one_bundle(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.features.text.TextEncoder", Letters)
    bundle = data.parent / "bundle"
    for model in ("s2-paper", "s2-init-paper"):
        run = trained(data, model)
        assert main(["export", "--run", str(run.folder), "--bundle", str(bundle)]) == 0
    served = open_bundle(bundle).backbones
    assert sorted(served) == ["s2-init-paper", "s2-paper"]
    first, second = (open_backbone(served[name]).score(None, [1, 2, 3], range(ITEMS)) for name in served)
    assert not np.allclose(first, second)
    for backbone in served.values():
        assert (backbone.manifest.text_view, backbone.manifest.captioner) == ("enhanced", "gpt4o")


def test_the_option_names_another_captioner_and_an_item_without_a_caption_has_its_title(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.features.text.TextEncoder", Letters)
    trained(data, "s2-paper", "--captioner", "claude3")
    assert Letters.read[:2] == ["Thing number 1", "Thing number 2\nHue 2."]


def test_the_trained_table_of_s2_is_in_the_checkpoint_and_has_moved(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.features.text.TextEncoder", Letters)
    run = trained(data, "s2-init-paper")
    table = run.best()["tower.parts.0.sources.0.table"].numpy()
    cache = run.folder.parent / "features"
    features = item_features(registry.read(data), run.config().features, ["text"], cache)["text"].values
    assert table.shape == features.shape == (ITEMS, 10)
    assert 0 < np.abs(table - features).max() < 0.2  # a few steps of 0.01
