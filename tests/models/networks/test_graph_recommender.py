"""What the graph families have in common: they learn blocks, and an interrupted training ends alike."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from toy_graphs import ITEMS, SECTIONS, blocks, graph_network

from models.evaluation import DrawnCandidates, leave_one_out
from models.networks.graph.interaction_graph import InteractionGraph
from models.networks.graph.recommender import Contents, bpr, light_propagation
from models.training.epoch import train_epoch
from models.training.progress import TrainingProgress
from models.training.scoring import metrics_over_candidates, scorer_for

LEARNT: dict[str, dict[str, Any]] = {
    "freedom": {"training": {"epochs": 20, "learning_rate": 0.03}},
    "bm3": {
        "network": {"dimension": 16, "dropout": 0.1},
        "training": {"epochs": 12, "learning_rate": 0.03, "batch": 32},
    },
}


@pytest.mark.parametrize("family", SECTIONS)
def test_a_graph_family_learns_which_items_belong_together(family: str) -> None:
    dataset, network = blocks(), graph_network(family, **LEARNT[family])
    optimiser = network.optimiser()
    for epoch in range(network.learning.epochs):
        train_epoch(network, optimiser, TrainingProgress(epoch))
    test, source = leave_one_out(dataset.histories).test, DrawnCandidates(dataset.histories, ITEMS)
    assert metrics_over_candidates(scorer_for(network), test, source)["H@1"] >= 0.9


@pytest.mark.parametrize("family", SECTIONS)
def test_a_training_that_was_interrupted_ends_with_the_same_bits(family: str) -> None:
    whole = graph_network(family)
    optimiser = whole.optimiser()
    train_epoch(whole, optimiser, TrainingProgress(0))
    saved = copy.deepcopy((whole.state_dict(), optimiser.state_dict()))
    train_epoch(whole, optimiser, TrainingProgress(1))
    resumed = graph_network(family)
    resumed.load_state_dict(saved[0])
    again = resumed.optimiser()
    again.load_state_dict(saved[1])
    train_epoch(resumed, again, TrainingProgress(1))
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


@pytest.mark.parametrize("family", SECTIONS)
def test_the_optimiser_is_adam_without_decay(family: str) -> None:
    optimiser = graph_network(family).optimiser()
    assert type(optimiser) is torch.optim.Adam
    assert (optimiser.defaults["betas"], optimiser.defaults["weight_decay"]) == ((0.9, 0.999), 0.0)


@pytest.mark.parametrize("family", SECTIONS)
def test_tables_begin_with_uniform_xavier_weights(family: str) -> None:
    network = graph_network(family)
    for weights in (network.user_table, network.item_table):
        limit = (6 / sum(weights.shape)) ** 0.5
        assert 0.9 * limit < float(weights.detach().abs().max()) <= limit


def test_an_item_without_the_feature_has_the_mean_of_the_others() -> None:
    contents = Contents(torch.tensor([[1.0, 2], [9, 9], [3, 6]]), torch.tensor([True, False, True]))
    assert contents(torch.tensor([1, 0])).tolist() == [[2, 4], [1, 2]]


def test_the_pairwise_loss_is_stable_where_the_sigmoid_is_zero() -> None:
    one = torch.ones(1, 1)
    assert float(bpr(one, -500 * one, 500 * one)) == 1000


@pytest.mark.parametrize("layers", [0, 1, 3])
def test_light_propagation_and_its_gradient_are_those_of_a_dense_matrix(layers: int) -> None:
    histories = [history[: 1 + user % 5] for user, history in enumerate(blocks(30).histories)]
    product = InteractionGraph(histories, ITEMS).symmetric()
    dense = product(torch.eye(product.shape[1]))
    torch.manual_seed(0)
    users, items = (torch.randn(n, 4, requires_grad=True) for n in (30, ITEMS))
    powers = [torch.linalg.matrix_power(dense, power) for power in range(layers + 1)]
    expected = torch.stack(powers).mean(dim=0) @ torch.cat([users, items])
    found = torch.cat(light_propagation(product, users, items, layers))
    assert torch.allclose(found, expected, atol=1e-6)
    weights = torch.randn_like(found)
    mine, theirs = (torch.autograd.grad((each * weights).sum(), (users, items)) for each in (found, expected))
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(mine, theirs, strict=True))
