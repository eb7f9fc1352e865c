from __future__ import annotations

from typing import Any

import pytest

from loadtest.check import OUTCOMES, problem_with
from service.lvlm.contracts import Outcome


def answer(*item_ids: str, **other: Any) -> dict[str, Any]:
    return {"strategy": "s3", "outcome": "ok", "items": [{"item_id": i} for i in item_ids], **other}


def test_k_different_items_outside_the_history_are_a_good_answer() -> None:
    assert problem_with(answer("a", "b"), "s3", 2, ["c"]) is None


def test_a_fallback_is_a_good_answer_since_the_user_gets_items() -> None:
    assert problem_with(answer("a", "b", outcome="fallback_deadline"), "s3", 2, []) is None


def test_the_outcomes_are_those_of_the_service() -> None:
    assert set(OUTCOMES) == {*map(str, Outcome), "cold_start"}


@pytest.mark.parametrize(
    ("found", "problem"),
    [
        (answer("a"), "1 items in place of 2"),
        (answer("a", "a"), "an item comes twice"),
        (answer("a", "seen"), "repeats seen"),
        (answer("a", "b", strategy="none"), "asked for s3"),
        (answer("a", "b", outcome="whatever"), "unknown outcome whatever"),
        ({"strategy": "s3", "outcome": "ok"}, "no list of items"),
        ({"strategy": "s3", "outcome": "ok", "items": ["a", "b"]}, "no list of items"),
        (None, "no JSON object"),
        ([], "no JSON object"),
    ],
)
def test_a_wrong_answer_is_named(found: Any, problem: str) -> None:
    assert problem in str(problem_with(found, "s3", 2, ["seen"]))
