"""A damaged ``result.json`` may hold anything."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest

from models.training.outcome import is_outcome

PART = {
    "H@1": None,
    "H@5": None,
    "N@5": None,
    "full": {"H@10": 0.5, "N@10": 1.0},
    "users": 6,
    "sampled_users": 0,
    "protocol": {"seed": 2024, "negatives": 29},
}
OUTCOME: dict[str, Any] = {
    "epochs": 2,
    "best_epoch": 1,
    "seconds_per_epoch": 0.5,
    "device": "cpu",
    "selected_by": "N@10",
    "metrics": {"validation": PART, "test": PART},
}


def test_an_outcome_of_a_catalogue_too_small_for_candidates_is_whole() -> None:
    assert is_outcome(OUTCOME)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("epochs", 10**400),
        ("epochs", True),
        ("best_epoch", -1),
        ("seconds_per_epoch", float("nan")),
        ("device", None),
        ("selected_by", 5),
        ("metrics", []),
        ("metrics.validation", {}),
        ("metrics.test", "x"),
        ("metrics.test.H@1", "x"),
        ("metrics.test.full.N@10", float("nan")),
        ("metrics.test.full", None),
        ("metrics.validation.N@5", 1.5),
        ("metrics.test.users", None),
        ("metrics.test.protocol", {"negatives": 29}),
        ("metrics.test.protocol.negatives", "29"),
        ("metrics.test_published", {}),
        ("metrics.test.fewer_candidates", "x"),
        ("ended_by", "minutes"),  # without what is told of such a training
    ],
)
def test_an_outcome_with_a_wrong_value_is_not(place: str, value: object) -> None:
    record = deepcopy(OUTCOME)
    *folders, last = place.split(".")
    table = record
    for name in folders:
        table = table[name]
    table[last] = value
    assert not is_outcome(record)
