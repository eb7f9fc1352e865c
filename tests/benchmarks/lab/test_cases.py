from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.errors import BenchmarkError
from benchmarks.lab.cases import Cohort, histories_of
from models.bundle.catalogue import read_catalogue
from models.evaluation import DrawnCandidates, EvaluationProtocol, candidate_matrix, leave_one_out
from service.catalogue.bundle import Bundle, open_bundle


@pytest.fixture
def bundle(tiny_bundle: Path) -> Bundle:
    return open_bundle(tiny_bundle)


def test_the_candidates_of_a_replay_are_those_of_the_training_evaluation(
    bundle: Bundle,
) -> None:
    dataset = read_catalogue(bundle.catalogue.folder.parent)
    examples = leave_one_out(dataset.histories).test
    matrix = candidate_matrix(examples, DrawnCandidates(dataset.histories, len(dataset.items)))
    cases = list(Cohort(bundle.catalogue, None, seed=1))
    assert [case.user for case in cases] == [example.user for example in examples]
    for case, example, rows in zip(cases, examples, matrix, strict=True):
        assert case.target == dataset.items[rows[0]].item_id
        assert set(case.candidates) == {dataset.items[row].item_id for row in rows}
        assert case.history == tuple(dataset.items[row].item_id for row in example.history)


def test_neither_the_history_nor_the_order_of_the_candidates_gives_the_target_away(bundle: Bundle) -> None:
    cases = list(Cohort(bundle.catalogue, None, seed=1))
    assert all(case.target not in case.history for case in cases)
    assert all(list(case.candidates) == sorted(case.candidates) for case in cases)
    assert len({case.candidates.index(case.target) for case in cases}) > 3


def test_users_without_a_test_item_are_left_out(bundle: Bundle) -> None:
    cohort = Cohort(bundle.catalogue, None, seed=1)
    assert len(cohort) == len(bundle.catalogue.histories.users) - 1
    assert "u11" not in {case.user_id for case in cohort}


def test_a_cohort_is_the_same_for_the_same_seed_and_differs_for_another(bundle: Bundle) -> None:
    def users(seed: int) -> list[int]:
        return [case.user for case in Cohort(bundle.catalogue, 4, seed)]

    assert len(users(1)) == 4
    assert users(1) == users(1)
    assert any(users(1) != users(seed) for seed in range(2, 6))


def test_users_without_enough_unseen_items_are_left_out_and_without_any_user_it_is_one_sentence(
    bundle: Bundle,
) -> None:
    def source(negatives: int) -> DrawnCandidates:
        protocol = EvaluationProtocol(negatives=negatives)
        return DrawnCandidates(histories_of(bundle.catalogue), len(bundle.catalogue.items), protocol)

    taken = np.diff(bundle.catalogue.histories.offsets)[:-1]  # the last user has no test item
    unseen = len(bundle.catalogue.items) - int(taken.min())
    some = Cohort(bundle.catalogue, None, 1, source(unseen))
    assert [case.user for case in some] == np.flatnonzero(taken == taken.min()).tolist()
    assert some.left_out == len(taken) - len(some) > 0
    with pytest.raises(BenchmarkError, match="no user of this bundle has 60 unseen items"):
        Cohort(bundle.catalogue, None, 1, source(60))


def test_histories_longer_than_the_service_takes_keep_their_end(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.lab.cases.LONGEST_HISTORY", 2)
    whole = bundle.catalogue.histories
    for case in Cohort(bundle.catalogue, None, seed=1):
        rows = whole.item_rows[whole.offsets[case.user] : whole.offsets[case.user + 1]]
        assert case.history == tuple(bundle.catalogue.items[row].item_id for row in rows[-3:-1])
        assert np.all(rows >= 0)
