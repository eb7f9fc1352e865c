from __future__ import annotations

import numpy as np
from small_data import rows
from toy_models import circle

from models.evaluation import (
    DrawnCandidates,
    EvaluationProtocol,
    candidate_matrix,
    evaluate,
    hit_at,
    leave_one_out,
    popularity,
    sampled_metrics,
)
from models.training.baselines import Pop, Random, baseline_metrics


def test_random_finds_the_target_as_often_as_chance_allows() -> None:
    histories = [rows(1, 2, 3)] * 6000
    examples = leave_one_out(histories).test
    candidates = candidate_matrix(examples, DrawnCandidates(histories, 200))
    hits = hit_at(evaluate(Random().score, examples, candidates), 1)
    assert abs(hits - 1 / 30) < 4 * np.sqrt(1 / 30 * 29 / 30 / 6000)


def test_random_repeats_itself_with_the_same_seed() -> None:
    candidates = np.zeros((2, 30), dtype=np.int32)
    first, again, other = (Random(seed).score([], candidates) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_pop_ranks_by_the_interactions_of_the_training_part() -> None:
    histories = [rows(0, 1, 2, 3), rows(0, 1, 3, 2), rows(0, 3, 2)]
    pop = Pop(popularity(histories, 5))
    assert pop.score([], np.array([[0, 1, 2, 3, 4]], dtype=np.int32)).tolist() == [[3, 2, 0, 0, 0]]


def test_the_baselines_are_measured_on_the_test_part_with_the_protocol_asked_for() -> None:
    dataset, protocol = circle(), EvaluationProtocol(seed=3, negatives=9)
    examples = leave_one_out(dataset.histories).test
    source = DrawnCandidates(dataset.histories, len(dataset.items), protocol)
    candidates = candidate_matrix(examples, source)
    pop = Pop(popularity(dataset.histories, len(dataset.items)))
    measured = baseline_metrics(dataset, source)
    assert measured["Pop"] == sampled_metrics(evaluate(pop.score, examples, candidates))
    assert measured["Random"] == sampled_metrics(evaluate(Random().score, examples, candidates))
    assert abs(measured["Random"]["H@5"] - 0.5) < 4 * np.sqrt(0.25 / len(examples))
