"""The candidate model returns what a naive product of all vectors would."""

from pathlib import Path

import numpy as np
import pytest

from service.candidates.sequence import SequenceModel
from service.catalogue.bundle import open_bundle


@pytest.fixture(scope="module")
def model(bundle_folder: Path) -> SequenceModel:
    return SequenceModel(open_bundle(bundle_folder).backbones["blocks-raw"])


def test_a_history_of_red_mugs_brings_red_mugs_in_row_order(model: SequenceModel) -> None:
    rows, scores = model.top(None, [0], k=3, exclude=[])
    assert rows == [0, 16, 32]
    assert scores == sorted(scores, reverse=True)


def test_items_left_out_never_come_back(model: SequenceModel) -> None:
    rows, _ = model.top(None, [0], k=48, exclude=[0, 16])
    assert set(rows) == set(range(48)) - {0, 16}


def test_fewer_items_than_asked_for_are_all_of_them(model: SequenceModel) -> None:
    rows, _ = model.top(None, [0], k=100, exclude=list(range(45)))
    assert sorted(rows) == [45, 46, 47]


def test_leaving_everything_out_leaves_nothing(model: SequenceModel) -> None:
    assert model.top(None, [0], k=5, exclude=list(range(48))) == ([], [])


def test_only_the_last_items_of_a_long_history_count(model: SequenceModel) -> None:
    last = [1] * model.manifest.length
    assert model.top(None, [0] * 500 + last, 5, []) == model.top(None, last, 5, [])


def test_scores_of_given_items_are_the_ones_of_the_whole_catalogue(model: SequenceModel) -> None:
    rows, scores = model.top(None, [3, 8, 21], k=48, exclude=[])
    np.testing.assert_allclose(model.score(None, [3, 8, 21], rows), scores, rtol=1e-6)


def test_items_whose_score_is_not_a_number_are_never_recommended(bundle_folder: Path) -> None:
    backbone = open_bundle(bundle_folder).backbones["blocks-raw"]
    vectors = np.array(backbone.item_vectors)
    vectors[7] = np.nan
    model = SequenceModel(type(backbone)(backbone.manifest, vectors, backbone.encoder))
    rows, _ = model.top(None, [0], k=48, exclude=[])
    assert 7 not in rows
    assert len(rows) == 47
