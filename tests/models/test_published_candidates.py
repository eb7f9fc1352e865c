from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from small_data import rows

from models.errors import EvaluationError
from models.evaluation import (
    DrawnCandidates,
    PublishedCandidates,
    candidate_matrix,
    candidates_in_words,
    leave_one_out,
)

HISTORIES = [rows(0, 1, 2), rows(3, 4, 5)]
TEST = leave_one_out(HISTORIES).test
GOOD = np.arange(10, 39, dtype=np.int32)
SOURCE = PublishedCandidates({0: GOOD}, HISTORIES, 40)


def test_a_target_is_ranked_among_the_negatives_of_its_user() -> None:
    assert candidate_matrix(TEST[:1], SOURCE).tolist() == [[2, *range(10, 39)]]


@pytest.mark.parametrize(
    "negatives",
    [
        GOOD[:28],
        np.append(GOOD, 39),
        np.append(GOOD[:28], 10),  # repeated
        np.append(GOOD[:28], 2),  # the target
        np.append(GOOD[:28], 1),  # taken
        np.append(GOOD[:28], 40),  # beyond the catalogue
        np.append(GOOD[:28], -1),  # unknown
        GOOD[:0],
    ],
)
def test_a_user_without_exactly_29_usable_negatives_is_left_out(negatives: np.ndarray) -> None:
    source = replace(SOURCE, negatives={0: negatives.astype(np.int32)})
    assert not source.offers(TEST[0])
    with pytest.raises(EvaluationError, match="no 29 usable published negatives"):
        source.candidates(TEST[0])


def test_a_user_for_whom_nothing_is_published_is_left_out() -> None:
    assert [SOURCE.offers(example) for example in TEST] == [True, False]


def test_drawn_candidates_are_offered_exactly_where_they_can_be_drawn() -> None:
    enough, few = DrawnCandidates(HISTORIES, 32), DrawnCandidates(HISTORIES, 31)
    assert len(enough.candidates(TEST[0])) == 30
    assert enough.offers(TEST[0])
    assert not few.offers(TEST[0])
    # A history may hold its target twice, in a bundle of an earlier version: that is one item.
    twice = DrawnCandidates([rows(0, 1, 1, 1)], 31)
    assert twice.offers(leave_one_out(twice.histories).test[0])


def test_tables_say_where_candidates_come_from() -> None:
    assert candidates_in_words(SOURCE.to_json()) == "1 + 29 candidates, published with the data set"
    drawn = DrawnCandidates(HISTORIES, 40).to_json()
    assert candidates_in_words(drawn) == "1 + 29 candidates, drawn with seed 2024"
