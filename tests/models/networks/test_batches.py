from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.networks.batches import batches, training_sequences

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
