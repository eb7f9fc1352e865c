from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from small_data import rows, save_picture, small_dataset
from toy_models import config

from models.bundle.catalogue import read_catalogue, write_catalogue
from models.contracts import Item
from models.data.dataset import Dataset
from models.networks.config import Config
from models.training.fingerprint import fingerprint

IDS = config()
ENHANCED = config(tower={"modalities": ["text"]}, features={"text_view": "enhanced", "captioner": "gpt4o"})
IMAGES = config(tower={"modalities": ["image"]})


def with_first(dataset: Dataset, **changes: Any) -> Dataset:
    return replace(dataset, items=(replace(dataset.items[0], **changes), *dataset.items[1:]))


@pytest.mark.parametrize("settings", [IDS, ENHANCED, IMAGES])
def test_a_catalogue_has_the_fingerprint_of_the_data_it_was_written_from(
    settings: Config, tmp_path: Path
) -> None:
    dataset = small_dataset(tmp_path / "photos")
    (tmp_path / "photos" / "broken.png").write_bytes(b"no picture")
    items = (*dataset.items, Item("E", title="", image="broken.png"), Item("F", image="absent.png"))
    dataset = replace(dataset, items=items)
    write_catalogue(dataset, tmp_path / "bundle")
    assert fingerprint(read_catalogue(tmp_path / "bundle"), settings) == fingerprint(dataset, settings)


@pytest.mark.parametrize(
    "change", [{"item_id": "Z"}, {"title": "A jug"}, {"keywords": "jug"}, {"categories": ("Home",)}]
)
def test_a_changed_item_changes_every_fingerprint(change: dict[str, Any]) -> None:
    dataset = small_dataset()
    assert fingerprint(with_first(dataset, **change), IDS) != fingerprint(dataset, IDS)


def test_a_changed_history_changes_every_fingerprint() -> None:
    other = small_dataset(histories=(rows(0, 1, 2), rows(3, 3, 2, 1), rows(2)))
    assert fingerprint(other, IDS) != fingerprint(small_dataset(), IDS)


def test_captions_count_where_the_configuration_reads_them() -> None:
    dataset = small_dataset()
    other = replace(dataset, captions={"gpt4o": {0: "A blue square."}})
    unread = replace(dataset, captions={**dataset.captions, "another": {1: "A line."}})
    moved = replace(dataset, captions={"gpt4o": {1: "A red square."}})
    assert fingerprint(other, ENHANCED) != fingerprint(dataset, ENHANCED)
    assert fingerprint(moved, ENHANCED) != fingerprint(dataset, ENHANCED)
    assert fingerprint(unread, ENHANCED) == fingerprint(dataset, ENHANCED)
    assert fingerprint(other, IDS) == fingerprint(dataset, IDS)


def test_the_bytes_of_pictures_count_where_the_configuration_reads_them(tmp_path: Path) -> None:
    dataset = small_dataset(tmp_path)
    before = [fingerprint(dataset, settings) for settings in (IMAGES, IDS)]
    save_picture(tmp_path / "a.png", (1, 2, 3))
    assert fingerprint(dataset, IMAGES) != before[0]
    assert fingerprint(dataset, IDS) == before[1]
