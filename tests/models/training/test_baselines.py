from __future__ import annotations

import numpy as np
from small_data import rows, small_dataset
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
from models.training.baselines import Pop, Random, baseline_metrics, baselines


def test_random_finds_the_target_as_often_as_chance_allows() -> None:
    histories = [rows(1, 2, 3)] * 6000
    examples = leave_one_out(histories).test
    candidates = candidate_matrix(examples, DrawnCandidates(histories, 200))
    hits = hit_at(evaluate(Random().score, examples, candidates), 1)
    assert abs(hits - 1 / 30) < 4 * np.sqrt(1 / 30 * 29 / 30 / 6000)


def test_random_depends_on_seed_and_user_and_not_on_the_order_of_users() -> None:
    histories = [rows(1, 2, 3)] * 4
    examples, candidates = leave_one_out(histories).test, np.zeros((4, 30), dtype=np.int32)
    scores = Random(1).score(examples, candidates)
    assert np.array_equal(Random(1).score(examples[::-1], candidates), scores[::-1])
    assert np.array_equal(Random(1).score(examples[2:3], candidates[:1]), scores[2:3])
    assert len({row.tobytes() for row in scores}) == 4
    assert not np.array_equal(Random(2).score(examples, candidates), scores)


def test_pop_ranks_by_the_interactions_of_the_training_part() -> None:
    histories = [rows(0, 1, 2, 3), rows(0, 1, 3, 2), rows(0, 3, 2)]
    pop = Pop(popularity(histories, 5))
    assert pop.score([], np.array([[0, 1, 2, 3, 4]], dtype=np.int32)).tolist() == [[3, 2, 0, 0, 0]]


def test_pop_of_the_paper_counts_validation_too_and_never_the_test_part() -> None:
    histories = [rows(0, 1, 2, 3), rows(0, 1, 3, 2), rows(0, 3, 2)]
    counts = popularity(histories, 5, with_validation=True)
    assert counts.tolist() == [3, 2, 1, 2, 0]


def test_a_tie_ranks_the_target_last_in_our_form_and_first_in_the_papers() -> None:
    histories = [rows(0, 1, 2), rows(0, 1, 3)]
    dataset = small_dataset(histories=tuple(histories), users=("u1", "u2"))
    test = leave_one_out(histories).test
    candidates = np.array([[2, 3, 1], [3, 2, 1]], dtype=np.int32)
    ranks = {}
    for form in ("ours", "paper"):
        pop = baselines(dataset, form)["Pop"]
        ranks[form] = evaluate(pop.score, test, candidates, ties=pop.ties).tolist()
    # Items 2 and 3 are counted by neither form, item 1 by the paper's alone.
    assert ranks == {"ours": [3, 3], "paper": [2, 2]}


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
