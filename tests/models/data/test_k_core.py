from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from models.data.k_core import k_core

pairs = st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)), max_size=60, unique=True)


def core(interactions: list[tuple[int, int]], k: int) -> list[tuple[int, int]]:
    users, items = (np.array([pair[side] for pair in interactions], dtype=np.int64) for side in (0, 1))
    return [pair for pair, kept in zip(interactions, k_core(users, items, k), strict=True) if kept]


@given(pairs, st.integers(1, 4))
def test_every_user_and_item_of_the_core_has_k_interactions(
    interactions: list[tuple[int, int]], k: int
) -> None:
    kept = core(interactions, k)
    for side in (0, 1):
        for value in {pair[side] for pair in kept}:
            assert sum(pair[side] == value for pair in kept) >= k


@given(pairs, st.integers(1, 4))
def test_the_core_is_the_largest_there_is(interactions: list[tuple[int, int]], k: int) -> None:
    """Peeling one rare user or item at a time, in any order, must not leave more."""
    left = list(interactions)
    while True:
        rare = next(
            (
                (side, pair[side])
                for pair in left
                for side in (0, 1)
                if sum(p[side] == pair[side] for p in left) < k
            ),
            None,
        )
        if rare is None:
            break
        left = [pair for pair in left if pair[rare[0]] != rare[1]]
    assert core(interactions, k) == left


def test_dropping_a_user_can_drop_items_and_then_further_users() -> None:
    chain = [(0, 0), (0, 1), (1, 1), (1, 2), (2, 2)]
    assert core(chain, 2) == []
    assert core([(u, i) for u in range(2) for i in range(2)] + chain[3:], 2) == [
        (0, 0),
        (0, 1),
        (1, 0),
        (1, 1),
    ]
