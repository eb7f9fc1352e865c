from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from models.networks.losses import binary_cross_entropy, full_softmax, sampled_softmax

ITEMS = 40


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return torch.randn(6, 4), torch.randn(ITEMS, 4), torch.randint(ITEMS, (6,))


def sampled(
    batch: tuple[torch.Tensor, torch.Tensor, torch.Tensor], negatives: torch.Tensor, log_q: bool = False
) -> torch.Tensor:
    states, vectors, targets = batch
    same = targets[:, None] == negatives
    return sampled_softmax(states, vectors[targets], vectors[negatives], same, ITEMS, log_q)


def test_the_full_softmax_is_minus_the_mean_log_probability(
    batch: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
) -> None:
    states, vectors, targets = batch
    probabilities = torch.softmax(states @ vectors.T, dim=1)
    expected = -probabilities[range(6), targets].log().mean()
    torch.testing.assert_close(full_softmax(states, vectors, targets), expected)


def test_with_all_items_as_negatives_sampling_equals_the_full_softmax(
    batch: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
) -> None:
    torch.testing.assert_close(sampled(batch, torch.arange(ITEMS)), full_softmax(*batch))


def test_the_correction_makes_few_negatives_stand_for_the_whole_catalogue(
    batch: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
) -> None:
    torch.manual_seed(1)
    draws = [torch.randint(ITEMS, (20,)) for _ in range(300)]
    full = full_softmax(*batch).item()
    corrected = sum(sampled(batch, each, log_q=True).item() for each in draws) / len(draws)
    plain = sum(sampled(batch, each).item() for each in draws) / len(draws)
    assert abs(corrected - full) < 0.5 * abs(plain - full)


def test_the_correction_adds_the_log_of_how_many_items_a_negative_stands_for() -> None:
    state, positive, negative = torch.zeros(1, 2), torch.zeros(1, 2), torch.zeros(3, 2)
    loss = sampled_softmax(state, positive, negative, torch.zeros(1, 3, dtype=torch.bool), ITEMS, True)
    assert loss.item() == pytest.approx(math.log(ITEMS), abs=1e-5)  # uniform over all 40


def test_a_negative_that_is_the_target_does_not_count_against_it(
    batch: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
) -> None:
    states, vectors, targets = batch
    one = (states[:1], vectors, targets[:1])
    hits = torch.cat([torch.tensor([(targets[0] + 1) % ITEMS]), targets[:1]])
    torch.testing.assert_close(sampled(one, hits), sampled(one, hits[:1]))


def test_the_binary_cross_entropy_is_minus_the_log_odds_of_each_target_and_its_negative() -> None:
    torch.manual_seed(0)
    states, positives, negatives = torch.randn(3, 6, 4)
    losses = []
    for state, positive, negative in zip(
        states.double().numpy(), positives.double().numpy(), negatives.double().numpy(), strict=True
    ):
        chosen, refused = 1 / (1 + np.exp(-state @ positive)), 1 / (1 + np.exp(-state @ negative))
        losses.append(-np.log(chosen) - np.log(1 - refused))
    assert binary_cross_entropy(states, positives, negatives).item() == pytest.approx(np.mean(losses))


def test_the_binary_cross_entropy_of_extreme_scores_is_finite() -> None:
    one = torch.tensor([[1000.0]])
    assert binary_cross_entropy(one, -one, one).item() == pytest.approx(2e6)
