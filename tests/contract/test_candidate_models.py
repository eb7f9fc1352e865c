"""The contract of candidate models, for every family."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from bundles import write_bundle, write_graph_backbone

from service.candidates.base import CandidateModel
from service.candidates.registry import open_backbone, open_counting
from service.catalogue.bundle import Bundle, open_bundle

ITEMS = 48
USERS = 12
CASES = [(None, [0, 5]), (2, [0, 5]), (2, [5, 0]), (None, [47])]
"""Users and histories."""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = write_bundle(tmp_path_factory.mktemp("bundles") / "blocks", items=ITEMS, users=USERS)
    version = open_bundle(folder).catalogue.version
    write_graph_backbone(folder, "graph", version, items=ITEMS, users=USERS)
    return open_bundle(folder)


@pytest.fixture(params=["blocks-raw", "graph", "pop", "random"])
def model(request: pytest.FixtureRequest, bundle: Bundle) -> CandidateModel:
    if request.param in bundle.backbones:
        return open_backbone(bundle.backbones[request.param])
    return open_counting(bundle.catalogue)[request.param]


@pytest.mark.parametrize(("user", "history"), CASES)
class TestEveryModel:
    def test_ranks_the_whole_catalogue_best_first_and_equal_scores_by_row(
        self, model: CandidateModel, user: int | None, history: list[int]
    ) -> None:
        rows, scores = model.top(user, history, k=1_000, exclude=[])
        assert sorted(rows) == list(range(ITEMS))
        assert list(zip(rows, scores, strict=True)) == sorted(
            zip(rows, scores, strict=True), key=lambda pair: (-pair[1], pair[0])
        )

    def test_gives_the_first_k_of_that_ranking(
        self, model: CandidateModel, user: int | None, history: list[int]
    ) -> None:
        rows, scores = model.top(user, history, k=ITEMS, exclude=[])
        assert model.top(user, history, k=7, exclude=[]) == (rows[:7], scores[:7])

    def test_leaves_out_what_is_excluded_and_nothing_else(
        self, model: CandidateModel, user: int | None, history: list[int]
    ) -> None:
        rows, _ = model.top(user, history, k=ITEMS, exclude=[])
        left, _ = model.top(user, history, k=ITEMS, exclude=[3, 17, 30])
        assert left == [row for row in rows if row not in (3, 17, 30)]
        assert model.top(user, history, k=5, exclude=range(ITEMS)) == ([], [])

    def test_scores_given_items_as_it_scores_them_in_the_ranking(
        self, model: CandidateModel, user: int | None, history: list[int]
    ) -> None:
        rows, scores = model.top(user, history, k=ITEMS, exclude=[])
        np.testing.assert_allclose(model.score(user, history, rows), scores, rtol=1e-6)

    def test_answers_the_same_request_the_same_way(
        self, model: CandidateModel, user: int | None, history: list[int]
    ) -> None:
        assert model.top(user, history, 10, []) == model.top(user, history, 10, [])


def test_every_model_says_what_it_is(model: CandidateModel, bundle: Bundle) -> None:
    manifest = model.manifest
    assert manifest.name
    assert manifest.family
    assert len(manifest.version) == 12
    assert manifest.catalogue_version == bundle.catalogue.version


def test_only_a_graph_model_knows_users_and_warns_of_unknown_ones(model: CandidateModel) -> None:
    graph = model.manifest.family == "graph"
    assert model.knows(3) == graph
    assert not model.knows(None)
    assert model.warnings(3) == ()
    assert bool(model.warnings(None)) == graph


def test_a_graph_model_ranks_by_the_users_own_vector_whatever_the_history(bundle: Bundle) -> None:
    model = open_backbone(bundle.backbones["graph"])
    rows, _ = model.top(2, [], k=3, exclude=[])
    assert rows == [2, 6, 10]  # blue things
    assert model.top(2, [0, 4], k=3, exclude=[])[0] == rows


def test_a_graph_model_ranks_by_the_mean_of_an_unknown_users_history(bundle: Bundle) -> None:
    graph, sequence = (open_backbone(bundle.backbones[name]) for name in ("graph", "blocks-raw"))
    rows, scores = graph.top(None, [0, 16, 3], k=ITEMS, exclude=[])
    expected_rows, expected = sequence.top(None, [0, 16, 3], k=ITEMS, exclude=[])  # its encoder is the mean
    assert rows == expected_rows
    np.testing.assert_allclose(scores, expected, rtol=1e-5)


def test_pop_is_the_order_of_the_counts(bundle: Bundle) -> None:
    rows, scores = open_counting(bundle.catalogue)["pop"].top(None, [0], k=ITEMS, exclude=[])
    assert rows == bundle.catalogue.popular.tolist()
    assert scores == bundle.catalogue.popularity[rows].tolist()


def test_random_is_another_order_for_another_user_or_history_and_lasts_over_restarts(bundle: Bundle) -> None:
    orders = [tuple(open_counting(bundle.catalogue)["random"].top(u, h, 48, [])[0]) for u, h in CASES]
    assert len(set(orders)) == len(CASES)
    again = [tuple(open_counting(bundle.catalogue)["random"].top(u, h, 48, [])[0]) for u, h in CASES]
    assert orders == again


def test_random_prefers_no_item(bundle: Bundle) -> None:
    model = open_counting(bundle.catalogue)["random"]
    firsts = [model.top(None, [a, b], 1, [])[0][0] for a in range(ITEMS) for b in range(ITEMS)]
    counts = np.bincount(firsts, minlength=ITEMS)  # 2,304 draws, 48 each
    assert np.abs(counts - ITEMS).max() < 5 * np.sqrt(ITEMS)


def test_the_versions_of_pop_and_random_change_with_the_catalogue(bundle: Bundle, tmp_path: Path) -> None:
    other = open_bundle(write_bundle(tmp_path / "other", items=ITEMS, users=USERS + 1))
    for name in ("pop", "random"):
        here, there = (open_counting(each.catalogue)[name].manifest.version for each in (bundle, other))
        assert here != there
