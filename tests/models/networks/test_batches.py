from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.networks.batches import batches, mixed_batches, negatives_outside, training_sequences

HISTORIES = st.lists(st.integers(0, 30), max_size=4).map(lambda lengths: [np.arange(n) for n in lengths])


@given(HISTORIES, st.integers(1, 8))
def test_every_item_but_a_users_first_is_a_target_exactly_once(
    histories: list[np.ndarray], length: int
) -> None:
    sequences = training_sequences(histories, length)
    targets = sorted(row for rows in sequences.values() for row in rows[:, 1:].flatten().tolist())
    assert targets == sorted(row for history in histories for row in history[1:].tolist())


@given(HISTORIES, st.integers(1, 8))
def test_sequences_are_consecutive_items_no_longer_than_the_network_reads(
    histories: list[np.ndarray], length: int
) -> None:
    for n, rows in training_sequences(histories, length).items():
        assert 1 <= n <= length
        assert rows.shape[1] == n + 1
        assert (rows.diff(dim=1) == 1).all()


def test_batches_hold_every_sequence_once_in_an_order_that_the_generator_decides() -> None:
    sequences = {n: torch.arange(20 * (n + 1)).view(20, n + 1) + 1000 * n for n in (1, 3)}

    def order(seed: int) -> list[list[list[int]]]:
        return [b.tolist() for b in batches(sequences, 12, torch.Generator().manual_seed(seed))]

    flat = sorted(row for batch in order(0) for row in batch)
    assert flat == sorted(row for rows in sequences.values() for row in rows.tolist())
    assert order(0) == order(0)
    assert order(0) != order(1)


def test_a_batch_holds_as_many_positions_as_asked_and_at_least_one_sequence() -> None:
    sequences = {1: torch.zeros(30, 2, dtype=torch.int64), 20: torch.zeros(3, 21, dtype=torch.int64)}
    sizes = {tuple(b.shape) for b in batches(sequences, 10, torch.Generator().manual_seed(0))}
    assert sizes == {(10, 2), (1, 21)}


@given(HISTORIES, st.integers(1, 8))
def test_the_last_window_of_a_user_is_the_end_of_the_history(
    histories: list[np.ndarray], length: int
) -> None:
    sequences = training_sequences(histories, length, "last")
    rows = sorted(row.tolist() for same in sequences.values() for row in same)
    assert rows == sorted(h[-(length + 1) :].tolist() for h in histories if len(h) >= 2)


def test_a_mixed_batch_holds_a_number_of_sequences_of_any_lengths_that_end_with_minus_ones() -> None:
    sequences = {n: torch.arange(20 * (n + 1)).view(20, n + 1) + 1000 * n for n in (1, 3)}

    def order(seed: int) -> list[list[list[int]]]:
        return [b.tolist() for b in mixed_batches(sequences, 16, torch.Generator().manual_seed(seed))]

    assert [len(batch) for batch in order(0)] == [16, 16, 8]
    flat = sorted(row for batch in order(0) for row in batch)
    assert flat == sorted([*([*r, -1, -1] for r in sequences[1].tolist()), *sequences[3].tolist()])
    assert len({tuple(row[2:]) == (-1, -1) for row in order(0)[0]}) == 2
    assert order(0) == order(0)
    assert order(0) != order(1)


@given(st.lists(st.lists(st.integers(-1, 6), min_size=4, max_size=4), min_size=1, max_size=5), st.integers())
def test_a_negative_is_never_an_item_of_its_own_sequence(rows: list[list[int]], seed: int) -> None:
    drawn = negatives_outside(torch.tensor(rows), 7, torch.Generator().manual_seed(seed % 2**31))
    assert drawn.shape == (len(rows), 3)
    for negatives, row in zip(drawn.tolist(), rows, strict=True):
        assert set(negatives) <= set(range(7)) - set(row)


def test_every_other_item_is_as_likely_a_negative() -> None:
    rows = torch.tensor([[5, 0, 2, 2]]).repeat(2000, 1)
    counts = negatives_outside(rows, 7, torch.Generator().manual_seed(0)).flatten().bincount(minlength=7)
    assert counts[[0, 2, 5]].tolist() == [0, 0, 0]
    assert counts[[1, 3, 4, 6]].tolist() == pytest.approx([1500] * 4, rel=0.1)


def test_a_sequence_that_holds_the_whole_catalogue_gets_some_item_of_it() -> None:
    drawn = negatives_outside(torch.tensor([[0, 1, 2, 1]]), 3, torch.Generator().manual_seed(0))
    assert set(drawn.flatten().tolist()) <= {0, 1, 2}
