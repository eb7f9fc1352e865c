"""Tests that the committed demo bundle is what ``make demo`` makes: records, pixels and rankings."""

import dataclasses
import io
import json
import tomllib
from pathlib import Path

import numpy as np
import pytest
from demo_golden import GOLDEN, golden_rankings
from PIL import Image

from models.data import demo
from models.data.dataset import Dataset
from service.catalogue.bundle import Bundle, open_bundle
from service.settings import DEMO_BUNDLE

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return demo.generate(tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="module")
def committed() -> Bundle:
    return open_bundle(DEMO_BUNDLE)


def test_the_items_and_histories_are_the_generated_ones(made: Dataset, committed: Bundle) -> None:
    def without_digest(items: object) -> list[object]:  # PNG compression may differ between zlib builds
        return [dataclasses.replace(item, image_sha256=None) for item in items]  # type: ignore[attr-defined]

    assert without_digest(committed.catalogue.items) == without_digest(made.items)
    assert list(committed.catalogue.histories.users) == list(made.users)
    for user_id, rows in zip(made.users, made.histories, strict=True):
        assert committed.catalogue.histories.get(user_id) == rows.tolist()


def test_the_pictures_are_the_generated_ones_pixel_for_pixel(made: Dataset, committed: Bundle) -> None:
    assert made.images is not None
    for row, item in enumerate(made.items):
        content = committed.catalogue.image(row)  # None if it were not the one with the digest
        assert content is not None
        assert item.image is not None
        with Image.open(io.BytesIO(content)) as old, Image.open(made.images / item.image) as new:
            np.testing.assert_array_equal(np.asarray(old.convert("RGB")), np.asarray(new.convert("RGB")))
        assert committed.catalogue.items[row].image_sha256 is not None


def test_every_item_has_a_caption_that_names_the_simulator(committed: Bundle) -> None:
    assert set(committed.catalogue.captions) == {"simulator"}
    assert len(committed.catalogue.captions["simulator"]) == 600
    path = DEMO_BUNDLE / "catalogue" / "captions" / "simulator.jsonl"
    assert {json.loads(line)["provider"] for line in path.read_text().splitlines()} == {"simulator"}


def test_the_backbones_were_trained_with_the_configuration_in_the_repository(committed: Bundle) -> None:
    wanted = tomllib.loads((ROOT / "models" / "configs" / "demo.toml").read_text())
    for name, backbone in committed.backbones.items():
        for section in ("network", "tower", "training"):
            assert backbone.manifest.config[section] == wanted[section], (name, section)
    views = {name: backbone.manifest.text_view for name, backbone in committed.backbones.items()}
    assert views == {"morec-t": "raw", "morec-t-enhanced": "enhanced"}


def test_captions_help_where_pictures_show_what_titles_do_not_say(committed: Bundle) -> None:
    raw, enhanced = (
        committed.backbones[name].manifest.metrics["test"]["N@5"] for name in ("morec-t", "morec-t-enhanced")
    )
    assert enhanced > raw + 0.05


def test_the_rankings_are_the_ones_written_down(committed: Bundle) -> None:
    golden = json.loads(GOLDEN.read_text())
    rankings = golden_rankings(DEMO_BUNDLE)
    assert rankings.keys() == golden.keys()
    for name, users in golden.items():
        for user_id, ranking in users.items():
            assert rankings[name][user_id]["items"] == ranking["items"], (name, user_id)
            np.testing.assert_allclose(rankings[name][user_id]["scores"], ranking["scores"], atol=2e-3)


def test_the_bundle_stays_small() -> None:
    assert sum(path.stat().st_size for path in DEMO_BUNDLE.rglob("*")) < 3_000_000
