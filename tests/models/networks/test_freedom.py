"""FREEDOM's equations, against dense matrices made literally in numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from toy_graphs import ITEMS, blocks, graph_config, graph_network
from toy_models import circle_features

from models.networks.freedom import Freedom, item_graph, kept_edges
from models.networks.graph.interaction_graph import SparseProduct
from models.training.config import CONFIGS, ConfigError, load
from models.training.loop import build

TRIPLES = torch.tensor([[0, 3, 40], [7, 38, 3], [7, 36, 11], [60, 1, 59]])


def dense(product: SparseProduct) -> np.ndarray:
    return product(torch.eye(product.shape[1])).detach().numpy()


def literal_item_graph(features: np.ndarray, k: int) -> np.ndarray:
    """One modality as in the paper: ones at the k nearest, over the roots of the sums of both rows."""
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    ones = np.zeros((len(features), len(features)))
    np.put_along_axis(ones, np.argsort(-(unit @ unit.T), axis=1)[:, :k], 1.0, axis=1)
    sums = ones.sum(axis=1)
    return np.asarray(ones / np.sqrt(np.outer(sums, sums)))


def noise(seed: int, items: int = 30) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(items, 5)).astype(np.float32)


def test_the_item_graph_is_the_weighted_sum_of_the_modalities_graphs() -> None:
    text, image = noise(1), noise(2)
    everything = torch.ones(30, dtype=torch.bool)
    features = {
        "text": (torch.from_numpy(text), everything),
        "image": (torch.from_numpy(image), everything),
    }
    expected = 0.9 * literal_item_graph(text, 4) + 0.1 * literal_item_graph(image, 4)
    np.testing.assert_allclose(dense(item_graph(features, 4, 0.1)), expected, atol=1e-7)
    alone = item_graph({"image": features["image"]}, 4, 0.1)
    np.testing.assert_allclose(dense(alone), literal_item_graph(image, 4), atol=1e-7)


def test_an_item_without_picture_has_neighbours_of_its_text_alone_and_is_none_by_pictures() -> None:
    text, image = noise(1), noise(2)
    seen = torch.ones(30, dtype=torch.bool)
    seen[[4, 9]] = False
    graph = dense(
        item_graph(
            {
                "text": (torch.from_numpy(text), torch.ones(30, dtype=torch.bool)),
                "image": (torch.from_numpy(image), seen),
            },
            neighbours=4,
            image_weight=0.25,
        )
    )
    pictures = np.zeros((30, 30))
    pictures[np.ix_(seen, seen)] = literal_item_graph(image[seen.numpy()], 4)
    expected = 0.75 * literal_item_graph(text, 4) + 0.25 * pictures
    expected[[4, 9]] /= 0.75
    np.testing.assert_allclose(graph, expected, atol=1e-7)
    np.testing.assert_allclose(graph.sum(axis=1), 1, atol=1e-6)


def test_an_item_without_any_modality_has_no_row() -> None:
    present = torch.arange(30) != 5
    graph = dense(item_graph({"text": (torch.from_numpy(noise(1)), present)}, 4, 0.1))
    assert not graph[5].any()
    assert not graph[:, 5].any()


def test_an_epoch_keeps_edges_with_the_probabilities_of_the_paper() -> None:
    """The first of a draw without replacement has the probability itself."""
    network: Freedom = graph_network("freedom")
    graph, generator = network.graph, torch.Generator().manual_seed(0)
    edges = len(graph.pairs)
    assert len(kept_edges(graph, 0.9, generator)) == int(edges * (1 - 0.9))
    kept = kept_edges(graph, 0.25, generator)
    assert len(set(kept.tolist())) == len(kept) == int(edges * 0.75)
    # Blocks are even; these weights are not.
    graph.user_degrees[:30] *= 25
    weights = np.array(
        [(float(graph.user_degrees[u]) * float(graph.item_degrees[i])) ** -0.5 for u, i in graph.pairs]
    )
    draws = [int(kept_edges(graph, 1 - 1.5 / edges, generator)[0]) for _ in range(1500)]
    heavy = weights > weights.mean()
    share = (weights[heavy] / weights.sum()).sum()
    assert abs(heavy[draws].mean() - share) <= 5 * (share * (1 - share) / 1500) ** 0.5


def test_every_epoch_prunes_anew_and_evaluation_has_the_whole_graph() -> None:
    network: Freedom = graph_network("freedom")
    before = network.user_vectors()
    pruned = []
    for seed in (1, 2, 1):
        batches = network.batches(torch.Generator().manual_seed(seed))
        assert sorted(torch.cat(list(batches))[:, :2].tolist()) == network.graph.pairs.tolist()
        pruned.append(dense(network.pruned))
    assert (pruned[0] > 0).sum() == 2 * int(len(network.graph.pairs) * 0.5)
    assert (pruned[0] != pruned[1]).any()
    assert (pruned[0] == pruned[2]).all()
    assert torch.equal(network.user_vectors(), before)


def literal_vectors(network: Freedom, adjacency: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    users = network.user_table.detach().numpy()
    items = network.item_table.detach().numpy()
    zero = np.concatenate([users, items])
    one = adjacency @ zero
    mean = (zero + one + adjacency @ one) / 3
    return mean[: len(users)], mean[len(users) :] + dense(network.item_graph) @ items


def literal_bpr(chosen: np.ndarray, positive: np.ndarray, negative: np.ndarray) -> float:
    gap = (chosen * positive).sum(axis=1) - (chosen * negative).sum(axis=1)
    return float(np.mean(np.log1p(np.exp(-gap))))


@pytest.mark.parametrize("weight", [0.0, 0.1])
def test_the_loss_is_that_of_the_paper(weight: float) -> None:
    network: Freedom = graph_network("freedom", training={"content_weight": weight})
    network.batches(torch.Generator().manual_seed(3))
    u, i = literal_vectors(network, dense(network.pruned))
    user, taken, drawn = TRIPLES.numpy().T
    expected = literal_bpr(u[user], i[taken], i[drawn])
    assert len(network.projections) == (2 if weight else 0)
    for (values, present), project in zip(feature_arrays(), network.projections, strict=False):
        filled = np.where(present[:, None], values, values[present].mean(axis=0))
        x = filled @ project[1].weight.detach().numpy().T + project[1].bias.detach().numpy()
        expected += weight * literal_bpr(u[user], x[taken], x[drawn])
    loss = network.loss(TRIPLES, torch.Generator())
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def feature_arrays() -> list[tuple[np.ndarray, np.ndarray]]:
    return [(each.values, each.present) for each in circle_features().values()]


def test_scores_are_products_of_the_vectors_of_the_whole_graph() -> None:
    network: Freedom = graph_network("freedom")
    network.batches(torch.Generator().manual_seed(3))
    u, i = literal_vectors(network, dense(network.graph.symmetric()))
    np.testing.assert_allclose(network.user_vectors().detach(), u, atol=1e-6)
    np.testing.assert_allclose(network.item_vectors().detach(), i, atol=1e-6)
    assert network.item_vectors().shape == (ITEMS, 8)


def test_features_are_weights_only_where_they_are_trained() -> None:
    frozen = graph_network("freedom")
    assert not [name for name in frozen.state_dict() if "values" in name]
    trained = graph_network("freedom", network={"train_features": True})
    trained.batches(torch.Generator().manual_seed(1))
    trained.loss(TRIPLES, torch.Generator()).backward()
    assert all(bool(project[0].values.grad.any()) for project in trained.projections)


@pytest.mark.parametrize(
    ("section", "changes", "complaint"),
    [
        ("training", {"pruning": 1.0}, r"pruning must be in \[0, 1\), not 1.0"),
        ("training", {"content_weight": -0.1}, "content_weight must not be negative"),
        ("training", {"batch": 0}, "batch must be at least 1"),
        ("network", {"neighbours": 0}, "neighbours must be at least 1"),
        ("network", {"image_weight": 1.5}, r"image_weight must be in \[0, 1\]"),
        ("network", {"layers": -1}, "item_layers and layers must be from 0"),
        ("network", {"modalities": []}, "modalities must name text, image or both"),
        ("network", {"modalities": ["text", "text"]}, "modalities must name text, image or both, each once"),
        ("network", {"modalities": ["id"]}, "network.modalities must be one of text, image"),
        ("network", {"dimension": 0}, "dimension must be at least 1"),
        ("features", {"text_pooling": "layers"}, "freedom reads one vector per text"),
        (
            "features",
            {"image_output": "layers", "image_encoder": "clip"},
            "freedom reads one vector per image",
        ),
    ],
)
def test_bad_settings_are_refused(section: str, changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        graph_config("freedom", **{section: changes})


def test_features_that_are_missing_are_named() -> None:
    features = {"text": circle_features()["text"]}
    with pytest.raises(ValueError, match="freedom needs image features of all 60 items"):
        build(graph_config("freedom"), blocks(), features)


def test_the_papers_configuration_has_its_values_for_each_data_set() -> None:
    found = {}
    for name in ("beauty", "clothing", "sports", "toys"):
        training: Any = load(CONFIGS / "freedom-paper.toml", dataset=name).training
        found[name] = (training.pruning, training.content_weight, training.learning_rate)
    assert found == {
        "beauty": (0.9, 1e-4, 1e-3),
        "clothing": (0.9, 0.0, 1e-3),
        "sports": (0.9, 0.0, 1e-3),
        "toys": (0.8, 0.0, 1e-3),
    }
