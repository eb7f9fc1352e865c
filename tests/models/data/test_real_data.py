"""Tests the readers on the data sets of the paper, where they are available."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from models.bundle.catalogue import read_catalogue, write_catalogue
from models.data import registry
from models.data.dataset import Dataset
from models.evaluation import DrawnCandidates, candidate_matrix, leave_one_out


@pytest.fixture(scope="module")
def beauty(real_data: Path) -> Dataset:
    return registry.read(real_data / "amazon_review" / "beauty")


@pytest.fixture(scope="module")
def movies(real_data: Path) -> Dataset:
    return registry.read(real_data / "movielens_posters" / "movies")


def test_beauty_has_the_counts_of_the_papers_table_4(beauty: Dataset) -> None:
    assert (len(beauty.users), len(beauty.items), beauty.interactions) == (22_363, 12_101, 198_502)


def test_beauty_has_a_readable_title_for_every_item(beauty: Dataset) -> None:
    titles = [item.title or "" for item in beauty.items]
    assert all(titles)
    assert not [title for title in titles if "&#" in title or "&amp;" in title]


def test_all_beauty_users_get_29_unseen_negatives(beauty: Dataset) -> None:
    examples = leave_one_out(beauty.histories).test
    candidates = candidate_matrix(examples, DrawnCandidates(beauty.histories, len(beauty.items)))
    assert candidates.shape == (22_363, 30)
    for example, row in list(zip(examples, candidates.tolist(), strict=True))[::97]:
        assert row[0] == example.target
        assert not set(row[1:]) & set(beauty.histories[example.user].tolist())


def test_sports_has_the_counts_of_table_4_and_items_called_by_their_keywords(real_data: Path) -> None:
    sports = registry.read(real_data / "amazon_review" / "sports")
    assert (len(sports.users), len(sports.items), sports.interactions) == (35_598, 18_357, 296_337)
    assert sports.items[0].title is None
    assert sports.items[0].name == "ghost armorers tool 332 punch hunting fishing"


def test_movies_have_a_poster_each_and_negatives_that_their_user_never_saw(movies: Dataset) -> None:
    assert (len(movies.users), len(movies.items), movies.interactions) == (666, 2_035, 64_567)
    assert all(item.image for item in movies.items)
    assert movies.negatives is not None
    assert {len(rows) for rows in movies.negatives.values()} == {29}
    assert not any(set(rows) & set(movies.histories[user]) for user, rows in movies.negatives.items())


@pytest.mark.slow
def test_every_poster_can_be_decoded(
    movies: Dataset, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        write_catalogue(movies, tmp_path)
    assert not caplog.records
    assert sum(item.image_sha256 is not None for item in read_catalogue(tmp_path).items) == 2_035


def test_the_published_captions_are_read_by_captioner(real_data: Path, tmp_path: Path) -> None:
    side = (real_data / "amazon_review_plus_sample" / "item2side.json").read_text()
    (tmp_path / "item2side.json").write_text(side)
    (tmp_path / "datamaps.json").write_text('{"id2user": {"1": "u"}, "id2item": {"83": "9759091062"}}')
    (tmp_path / "sequential.txt").write_text("1 83\n")
    dataset = registry.read(tmp_path)
    assert dataset.items[0].title == "Xtreme Brite Brightening Gel 1oz."
    assert set(dataset.captions) == {"claude3", "gpt4o", "gpt4v"}
    assert dataset.captions["gpt4v"] == {0: "Xtreme Brite Brightening Gel 1oz"}
