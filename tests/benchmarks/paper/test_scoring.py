from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.paper.accuracy import (
    accuracy,
    answered,
    by_strategy,
    known_sum,
    score,
    served_rank,
    strategy_rank,
)
from models.errors import EvaluationError
from models.evaluation import MISS, rank_of_target

POOL = tuple("ABCDEF")


def record(
    strategy: str = "none",
    order: str = "ABCDEF",
    placed: int = 0,
    scores: dict[str, float | None] | None = None,
    target: str = "A",
    **other: Any,
) -> dict[str, Any]:
    """An answer in which the LVLM placed the first ``placed`` items and the backbone ``toy`` the others."""
    scores = scores or {item: -float(i) for i, item in enumerate(POOL)}
    items = [
        {"item_id": item, "score": scores[item], "source": "lvlm" if place < placed else "toy"}
        for place, item in enumerate(order)
    ]
    lvlm = {"provider": "openai", "model": "gpt-4o", "cost_usd": 0.5, "invented": 1, "input_tokens": 7}
    return {
        "user": 0,
        "strategy": strategy,
        "target": target,
        "error": None,
        "outcome": "ok",
        "backbone": {"name": "toy"},
        "items": items,
        "lvlm": lvlm if strategy not in ("none", "s2") else None,
        "client_seconds": 0.5,
        **other,
    }


def failed(strategy: str = "s3") -> dict[str, Any]:
    return record(strategy, order="", error="500: broken", outcome=None, backbone=None, lvlm=None)


def test_a_place_given_by_the_lvlm_counts_for_both_scores() -> None:
    found = record("s3", order="CABDEF", placed=2)
    assert (strategy_rank(found), served_rank(found)) == (2, 2)


def test_a_place_that_the_fallback_gave_counts_as_served_alone() -> None:
    found = record("s3", order="CBADEF", placed=2)
    assert (strategy_rank(found), served_rank(found)) == (MISS, 3)


def test_an_answer_without_a_single_place_from_the_lvlm_is_a_miss_of_the_strategy() -> None:
    found = record("s1", placed=0, outcome="fallback_provider")
    assert (strategy_rank(found), served_rank(found), answered(found)) == (MISS, 1, False)


def test_a_failed_request_is_a_miss_for_both_scores() -> None:
    assert (strategy_rank(failed()), served_rank(failed()), answered(failed())) == (MISS, MISS, False)


def test_a_target_that_the_service_dropped_is_a_miss() -> None:
    assert served_rank(record(order="BCD")) == MISS


@pytest.mark.parametrize("strategy", ["none", "s2"])
def test_the_candidate_models_own_place_counts_where_no_lvlm_is_asked(strategy: str) -> None:
    assert strategy_rank(record(strategy, target="B")) == 2


def test_popular_items_of_a_cold_start_are_not_the_candidate_models_places() -> None:
    found = record(outcome="cold_start")
    for item in found["items"]:
        item["source"] = "popularity"
    assert (strategy_rank(found), served_rank(found)) == (MISS, 1)


def test_ties_in_score_count_against_the_target_although_the_order_favours_it() -> None:
    found = record(scores=dict.fromkeys(POOL, 1.0), target="A")
    assert strategy_rank(found) == 6


def test_a_score_that_is_not_a_number_loses() -> None:
    scores = {**{item: -float(i) for i, item in enumerate(POOL)}, "A": None}
    assert strategy_rank(record(scores=scores, target="A")) == 6


scores_of_pool = st.lists(st.sampled_from([0.0, 0.5, 1.0, 2.0]) | st.floats(-5, 5), min_size=6, max_size=6)


@given(scores_of_pool)
def test_the_rank_read_from_an_answer_is_the_rank_of_the_training_evaluation(values: list[float]) -> None:
    scores = dict(zip(POOL, values, strict=True))
    order = "".join(sorted(POOL, key=lambda item: -scores[item]))
    others = [scores[item] for item in POOL if item != "C"]
    expected = rank_of_target([scores["C"], *others])
    assert strategy_rank(record(order=order, scores=scores, target="C")) == expected


@given(st.permutations(POOL), st.integers(0, 6), st.sampled_from(POOL))
def test_the_strategy_is_never_scored_above_what_was_served(
    order: list[str], placed: int, target: str
) -> None:
    found = record("s3", order="".join(order), placed=placed, target=target)
    assert strategy_rank(found) in (MISS, served_rank(found))


ranks = st.lists(st.integers(1, 30) | st.just(math.inf), min_size=1, max_size=50)


@given(ranks)
def test_accuracy_equals_a_naive_average_and_lies_in_its_interval(values: list[float]) -> None:
    found = accuracy(values)
    naive = {
        "H@1": sum(rank == 1 for rank in values) / len(values),
        "H@5": sum(rank <= 5 for rank in values) / len(values),
        "N@5": sum(1 / math.log2(rank + 1) for rank in values if rank <= 5) / len(values),
    }
    assert found.values == pytest.approx(naive)
    for name, (low, high) in found.intervals.items():
        assert low - 1e-9 <= naive[name] <= high + 1e-9


def test_failed_answers_stay_in_the_denominator_and_leave_only_the_lenient_one() -> None:
    found = score(
        "s3", [record("s3", placed=3), failed(), failed(), record("s3", outcome="fallback_deadline")]
    )
    assert found.strategy_score.values["H@1"] == 0.25
    assert found.as_served.values["H@1"] == 0.5
    assert found.answered_only is not None
    assert (found.answered_only.users, found.answered_only.values["H@1"]) == (1, 1.0)
    assert (found.failures, found.fallbacks) == (2, 1)


def test_repairs_tokens_and_cost_are_summed_over_all_answers() -> None:
    found = score("s3", [record("s3", placed=3), record("s3", placed=3), failed()])
    assert found.repairs == {"invented": 2, "duplicated": 0, "missing": 0}
    assert found.tokens["input_tokens"] == 14
    assert found.cost_usd == 1.0
    assert not found.simulated


def test_one_unknown_price_makes_the_sum_unknown() -> None:
    assert known_sum([0.5, None]) is None
    assert known_sum([]) == 0


def test_answers_of_the_simulator_are_recognised() -> None:
    found = record("s3", placed=3, lvlm={"provider": "simulator-anthropic", "model": "sim-gpt-4o"})
    assert score("s3", [found]).simulated


def test_a_user_who_was_asked_twice_counts_once() -> None:
    groups = by_strategy([record("s3"), record("none"), record("none", target="F")])
    assert list(groups) == ["none", "s3"]
    assert [r["target"] for r in groups["none"]] == ["A"]


def test_no_records_are_no_score() -> None:
    with pytest.raises(EvaluationError):
        accuracy([])
