from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_data import rows

from models.errors import EvaluationError
from models.evaluation import (
    COHORT_SIZE,
    MISS,
    DrawnCandidates,
    EvaluationProtocol,
    Example,
    candidate_matrix,
    cohort,
    evaluate,
    evaluate_full,
    full_metrics,
    full_rank,
    hit_at,
    leave_one_out,
    ndcg_at,
    popularity,
    rank_of_target,
    sample_candidates,
    sampled_metrics,
)

scores = st.lists(
    st.sampled_from([-math.inf, -1.0, 0.0, 0.5, 1.0, math.inf, math.nan]), min_size=1, max_size=12
)
ranks = st.lists(st.one_of(st.integers(1, 30), st.just(MISS)), min_size=1, max_size=40)


def test_the_last_item_is_the_test_target_and_the_one_before_it_the_validation_target() -> None:
    split = leave_one_out([rows(4, 5, 6, 7)])
    assert split.training[0].tolist() == [4, 5]
    assert (split.validation[0].history.tolist(), split.validation[0].target) == ([4, 5], 6)
    assert (split.test[0].history.tolist(), split.test[0].target) == ([4, 5, 6], 7)


def test_a_user_with_fewer_than_three_items_is_only_trained_on() -> None:
    split = leave_one_out([rows(1, 2), rows(), rows(1, 2, 3)])
    assert [part.tolist() for part in split.training] == [[1, 2], [], [1]]
    assert [example.user for example in split.test] == [example.user for example in split.validation] == [2]


@given(st.lists(st.integers(0, 59), max_size=25, unique=True), st.integers(0, 59), st.integers(0, 10**6))
def test_candidates_are_the_target_and_29_different_unseen_items(
    seen: list[int], target: int, user: int
) -> None:
    candidates = sample_candidates(seen, target, 60, EvaluationProtocol(), user).tolist()
    assert candidates[0] == target
    assert len(set(candidates)) == len(candidates) == 30
    assert not set(candidates[1:]) & set(seen)
    assert all(0 <= row < 60 for row in candidates)


def test_candidates_do_not_depend_on_the_process_or_on_other_users() -> None:
    program = (
        "from models.evaluation import *\n"
        "print(sample_candidates([1, 2, 3], 3, 1000, EvaluationProtocol(seed=5, negatives=4), 17).tolist())"
    )
    alone = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    histories = [rows(9, 8, 7)] * 17 + [rows(1, 2, 3)]
    matrix = candidate_matrix(
        leave_one_out(histories).test,
        DrawnCandidates(histories, 1000, EvaluationProtocol(seed=5, negatives=4)),
    )
    # Numbers that were quoted stay comparable only as long as these rows stay the same.
    assert alone.strip() == str(matrix[17].tolist()) == GOLDEN


GOLDEN = "[3, 263, 346, 53, 819]"


def test_candidates_change_with_the_seed_and_the_user_and_the_target() -> None:
    base = sample_candidates([1, 2], 2, 10_000, EvaluationProtocol(seed=1), 0)[1:].tolist()
    others = [
        sample_candidates([1, 2], 2, 10_000, EvaluationProtocol(seed=2), 0),
        sample_candidates([1, 2], 2, 10_000, EvaluationProtocol(seed=1), 1),
        sample_candidates([1, 2], 1, 10_000, EvaluationProtocol(seed=1), 0),
    ]
    assert all(base != other[1:].tolist() for other in others)


def test_negatives_are_uniform_over_unseen_items() -> None:
    drawn = [sample_candidates([0], 0, 50, EvaluationProtocol(negatives=5), user)[1:] for user in range(4000)]
    counts = np.bincount(np.concatenate(drawn), minlength=50)[1:]
    expected = 4000 * 5 / 49
    chi_squared = float(np.sum((counts - expected) ** 2 / expected))
    assert chi_squared < 85  # 48 degrees of freedom: p = 0.001


def test_all_unseen_items_are_found_when_there_are_just_enough() -> None:
    seen = range(29, 1000)
    assert sorted(sample_candidates(seen, 999, 1000, EvaluationProtocol(), 3)[1:].tolist()) == list(range(29))


def test_a_user_who_has_seen_nearly_everything_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(EvaluationError, match=r"all but 28 of 60 items.*fewer negatives"):
        sample_candidates(range(32), 0, 60, EvaluationProtocol(), 0)


def test_later_items_of_a_user_are_no_negatives_of_the_validation_target() -> None:
    histories = [rows(*range(40), 41, 40)]
    split = leave_one_out(histories)
    candidates = candidate_matrix(split.validation, DrawnCandidates(histories, 71))
    assert 40 not in candidates[0].tolist()


def test_no_examples_give_an_empty_matrix_and_no_ranks() -> None:
    matrix = candidate_matrix([], DrawnCandidates([], 100))
    assert matrix.shape == (0, 30)
    assert evaluate(lambda examples, candidates: candidates, [], matrix).shape == (0,)


@given(scores)
def test_the_rank_counts_everything_that_the_target_does_not_beat(values: list[float]) -> None:
    target, others = values[0], values[1:]
    naive = 1 + sum(1 for other in others if math.isnan(target) or math.isnan(other) or other >= target)
    assert rank_of_target(values) == naive


def test_ties_count_against_the_target() -> None:
    assert rank_of_target([[1.0, 1.0, 0.0], [0.0, 0.0, 0.0]]).tolist() == [2, 3]


def test_ties_count_for_the_target_where_that_is_asked_and_nan_still_does_not() -> None:
    scores = [[1.0, 1.0, 0.0], [0.0, 0.0, 1.0], [0.0, np.nan, 0.0]]
    assert rank_of_target(scores, ties="for").tolist() == [1, 2, 2]
    assert full_rank(scores, [0, 0, 0], [[], [2], []], ties="for").tolist() == [1, 1, 2]


def test_a_model_that_answers_nan_loses_everywhere() -> None:
    everything = rank_of_target(np.full((4, 30), np.nan))
    assert everything.tolist() == [30] * 4
    assert sampled_metrics(everything) == {"H@1": 0, "H@5": 0, "N@5": 0}


def test_a_nan_among_the_others_stands_above_the_target() -> None:
    assert rank_of_target([1.0, math.nan, 0.0]) == 2


@given(st.data())
def test_the_full_rank_equals_ranking_the_target_among_its_unseen_items(data: st.DataObject) -> None:
    n = data.draw(st.integers(1, 12))
    values = data.draw(st.lists(st.floats(-2, 2, width=16), min_size=n, max_size=n))
    target = data.draw(st.integers(0, n - 1))
    seen = data.draw(st.lists(st.integers(0, n - 1)))
    others = [value for row, value in enumerate(values) if row != target and row not in seen]
    expected = rank_of_target([values[target], *others])
    assert full_rank([values], [target], [seen]).tolist() == [expected]


def test_a_nan_target_is_last_in_the_full_ranking() -> None:
    assert full_rank([[0.0, math.nan, 2.0, 3.0]], [1], [[3]]).tolist() == [3]


@given(ranks, st.integers(1, 30))
def test_hit_ratio_and_ndcg_equal_their_definitions(values: list[float], k: int) -> None:
    hits = [1 if rank <= k else 0 for rank in values]
    gains = [1 / math.log2(rank + 1) if rank <= k else 0 for rank in values]
    assert hit_at(values, k) == pytest.approx(sum(hits) / len(values))
    assert ndcg_at(values, k) == pytest.approx(sum(gains) / len(values))


@given(ranks)
def test_metrics_lie_between_0_and_1_and_gain_never_exceeds_hits(values: list[float]) -> None:
    metrics = sampled_metrics(values) | full_metrics(values)
    assert all(0 <= value <= 1 for value in metrics.values())
    assert metrics["H@1"] <= metrics["N@5"] <= metrics["H@5"]
    assert metrics["N@10"] <= metrics["H@10"]


def test_a_miss_stays_in_the_denominator() -> None:
    assert hit_at([1, MISS], 30) == ndcg_at([1, MISS], 30) == 0.5


@pytest.mark.parametrize("metric", [hit_at, ndcg_at])
def test_an_average_over_no_user_is_an_error(metric: object) -> None:
    with pytest.raises(EvaluationError, match="no example"):
        metric([], 5)  # type: ignore[operator]


def test_an_evaluation_in_batches_equals_one_in_a_single_batch() -> None:
    histories = [rows(user, user + 1, user + 2, user + 3) for user in range(50)]
    examples = leave_one_out(histories).test
    candidates = candidate_matrix(examples, DrawnCandidates(histories, 100))

    def nearest(given: Sequence[Example], rows_to_score: np.ndarray) -> np.ndarray:
        last = np.array([example.history[-1] for example in given])
        return -np.abs(rows_to_score - last[:, None]).astype(np.float64)

    one = evaluate(nearest, examples, candidates, batch=1000)
    assert evaluate(nearest, examples, candidates, batch=7).tolist() == one.tolist()
    whole = evaluate_full(nearest, examples, 100)
    assert evaluate_full(nearest, examples, 100, batch=7).tolist() == whole.tolist()
    assert (whole >= one).all()
    assert hit_at(one, 1) > 0.5


def test_the_protocol_holds_everything_that_is_needed_to_draw_again() -> None:
    assert EvaluationProtocol(seed=3, negatives=9).to_json() == {
        "seed": 3,
        "negatives": 9,
        "split": "leave-one-out",
        "sampler": "uniform over unseen items, splitmix64",
        "ties": "against the target",
    }


def test_the_cohort_has_the_papers_400_users() -> None:
    assert len(cohort(range(22_363))) == COHORT_SIZE == 400


def test_a_cohort_is_seeded_and_ascending_and_without_repetition() -> None:
    chosen = cohort(range(5000), 300, seed=1).tolist()
    assert chosen == sorted(set(chosen)) == cohort(range(4999, -1, -1), 300, seed=1).tolist()
    assert chosen != cohort(range(5000), 300, seed=2).tolist()
    assert 2200 < np.mean(chosen) < 2800


def test_a_smaller_cohort_is_part_of_a_larger_one() -> None:
    assert set(cohort(range(5000), 100).tolist()) <= set(cohort(range(5000), 400).tolist())


def test_a_cohort_of_few_users_is_all_of_them() -> None:
    assert cohort([7, 3, 5]).tolist() == [3, 5, 7]


def test_popularity_leaves_validation_and_test_items_out() -> None:
    counts = popularity([rows(0, 1, 2, 3), rows(0, 0, 3, 2), rows(4, 4)], 6)
    assert counts.tolist() == [3, 1, 0, 0, 2, 0]
    assert counts.dtype == np.int64
