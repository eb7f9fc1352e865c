"""BM3's equations, against literal numpy, and that no gradient passes its targets."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from toy_graphs import ITEMS, graph_config, graph_network
from toy_models import circle_features

from models.networks.bm3 import BM3, frobenius
from models.training.config import CONFIGS, ConfigError, load

PAIRS = torch.tensor([[0, 3], [7, 38], [7, 36], [60, 1], [0, 4], [19, 38]])
NO_DROPOUT = {"network": {"dropout": 0.0}}


@pytest.fixture
def many_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def literal_vectors(network: BM3) -> tuple[np.ndarray, np.ndarray]:
    """u and i with one layer."""
    users, items = network.user_table.detach().numpy(), network.item_table.detach().numpy()
    adjacency = np.zeros((len(users) + len(items),) * 2)
    for user, item in network.graph.pairs.tolist():
        adjacency[user, len(users) + item] = adjacency[len(users) + item, user] = 1
    scale = np.diag((adjacency.sum(axis=1) + 1e-7) ** -0.5)
    zero = np.concatenate([users, items])
    mean = (zero + scale @ adjacency @ scale @ zero) / 2
    return mean[: len(users)], mean[len(users) :] + items


def affine(layer: Any, x: np.ndarray) -> np.ndarray:
    return np.asarray(x @ layer.weight.detach().numpy().T + layer.bias.detach().numpy())


def literal_distance(a: np.ndarray, b: np.ndarray) -> float:
    cosines = [x @ y / np.linalg.norm(x) / np.linalg.norm(y) for x, y in zip(a, b, strict=True)]
    return 1 - float(np.mean(cosines))


def test_the_loss_is_that_of_the_paper() -> None:
    network: BM3 = graph_network("bm3", **NO_DROPOUT)
    u, i = literal_vectors(network)
    user, item = PAIRS.numpy().T
    expected = literal_distance(affine(network.predictor, u)[user], i[item])
    expected += literal_distance(affine(network.predictor, i)[item], u[user])
    expected += 0.01 * (np.linalg.norm(u) + np.linalg.norm(i)) / ITEMS
    features = circle_features()
    for modality, project in zip(("text", "image"), network.projections, strict=True):
        values, present = features[modality].values, features[modality].present
        x = affine(project[1], np.where(present[:, None], values, values[present].mean(axis=0)))
        predicted = affine(network.predictor, x)[item]
        expected += 2.0 * (literal_distance(predicted, i[item]) + literal_distance(predicted, x[item]))
    assert network.loss(PAIRS, torch.Generator()).item() == pytest.approx(expected, rel=1e-5)


def test_scores_are_products_of_predicted_vectors() -> None:
    network: BM3 = graph_network("bm3")
    u, i = literal_vectors(network)
    np.testing.assert_allclose(network.user_vectors().detach(), affine(network.predictor, u), atol=1e-6)
    np.testing.assert_allclose(network.item_vectors().detach(), affine(network.predictor, i), atol=1e-6)


def test_a_target_has_no_gradient_and_drops_the_share_that_is_set() -> None:
    network: BM3 = graph_network("bm3")
    vectors = torch.ones(500, 8, requires_grad=True)
    target = network.target(vectors)
    assert not target.requires_grad
    assert target.unique().tolist() == pytest.approx([0, 1 / 0.7])
    assert float((target == 0).float().mean()) == pytest.approx(0.3, abs=0.05)
    network.eval()
    assert bool((network.target(vectors) == 0).any())  # the masks are part of the loss, not of a mode


def test_the_gradient_is_that_of_a_loss_whose_targets_are_constants() -> None:
    """Each pair of equation (5) pulls at its first vector alone."""
    settings = {**NO_DROPOUT, "training": {"content_weight": 0.0, "regularisation": 0.0}}
    network: BM3 = graph_network("bm3", **settings)
    network.loss(PAIRS, torch.Generator()).backward()
    users, items = network._vectors()
    fixed_users, fixed_items = users.detach(), items.detach()
    user, item = PAIRS.T

    def cosine(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return ((a * b).sum(1) / (a.square().sum(1) * b.square().sum(1)).sqrt()).mean()

    loss = 2 - cosine(network.predictor(users)[user], fixed_items[item])
    loss = loss - cosine(network.predictor(items)[item], fixed_users[user])
    expected = torch.autograd.grad(loss, [network.user_table, network.item_table])
    torch.testing.assert_close(network.user_table.grad, expected[0], rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(network.item_table.grad, expected[1], rtol=1e-4, atol=1e-7)


def test_one_target_has_one_mask_wherever_it_occurs_in_a_batch() -> None:
    network: BM3 = graph_network("bm3", training={"content_weight": 0.0, "regularisation": 0.0})
    calls = []
    original = network.target
    network.target = lambda x: calls.append(x.shape[0]) or original(x)  # type: ignore[method-assign, func-returns-value]
    network.loss(PAIRS, torch.Generator())
    assert calls == [4, 5, 5, 5]  # different users, different items, and the items' texts and pictures


def test_a_batch_is_pairs_without_negatives() -> None:
    network: BM3 = graph_network("bm3")
    batches = network.batches(torch.Generator().manual_seed(1))
    assert {len(each) for each in batches[:-1]} == {64}
    assert sorted(torch.cat(list(batches)).tolist()) == network.graph.pairs.tolist()


def test_one_modality_leaves_the_terms_of_the_other_out() -> None:
    network: BM3 = graph_network("bm3", network={"modalities": ["text"]})
    assert len(network.projections) == 1


def test_features_are_weights_only_where_they_are_trained() -> None:
    assert not [name for name in graph_network("bm3").state_dict() if "values" in name]
    trained = graph_network("bm3", network={"train_features": True})
    trained.loss(PAIRS, torch.Generator()).backward()
    assert all(bool(project[0].values.grad.any()) for project in trained.projections)


def test_the_norm_is_frobenius_and_the_same_bits_with_any_number_of_threads(many_threads: None) -> None:
    torch.manual_seed(0)
    matrix = torch.randn(9000, 8)  # torch splits sums of more than 32,768 values between threads
    norms = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        norms.append(float(frobenius(matrix)))
    assert norms[0] == norms[1] == pytest.approx(np.linalg.norm(matrix.numpy()), rel=1e-6)


def test_the_gradient_of_the_norm_is_torchs_own_and_zero_at_zero() -> None:
    torch.manual_seed(0)
    matrix = torch.randn(70, 5, requires_grad=True)
    (gradient,) = torch.autograd.grad(3 * frobenius(matrix), matrix)
    (expected,) = torch.autograd.grad(3 * torch.linalg.vector_norm(matrix), matrix)
    assert torch.allclose(gradient, expected)
    zero = torch.zeros(3, 2, requires_grad=True)
    assert not torch.autograd.grad(frobenius(zero), zero)[0].any()


@pytest.mark.parametrize(
    ("section", "changes", "complaint"),
    [
        ("training", {"regularisation": -0.1}, "content_weight and regularisation must not be negative"),
        ("training", {"batch": 2**21}, "batch must be at least 1 and at most 1,048,576"),
        ("network", {"dropout": 1.0}, r"dropout must be in \[0, 1\), not 1.0"),
        ("network", {"layers": -1}, "layers must be from 0"),
        ("network", {"modalities": ["audio"]}, "network.modalities must be one of text, image"),
        ("features", {"text_pooling": "layers"}, "bm3 reads one vector per text"),
    ],
)
def test_bad_settings_are_refused(section: str, changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        graph_config("bm3", **{section: changes})


def test_the_papers_configuration_has_its_values_for_each_data_set() -> None:
    found = {}
    for name in ("beauty", "clothing", "sports", "toys"):
        config: Any = load(CONFIGS / "bm3-paper.toml", dataset=name)
        found[name] = (config.training.regularisation, config.network.dropout, config.network.layers)
    assert found == {
        "beauty": (0.01, 0.3, 1),
        "clothing": (0.01, 0.5, 1),
        "sports": (0.1, 0.5, 1),
        "toys": (0.1, 0.5, 1),
    }
