"""The graph of users and items, against dense matrices made literally in numpy."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from small_data import rows

from models.networks.graph.interaction_graph import InteractionGraph, SparseProduct, nearest_items

HISTORIES = [rows(0, 2, 0), rows(2, 5, 1), rows(), rows(5)]
"""A repeated item, a user without any, and (of seven) items that no user has."""


@pytest.fixture
def graph() -> InteractionGraph:
    return InteractionGraph(HISTORIES, items=7)


@pytest.fixture
def many_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def adjacency() -> np.ndarray:
    """A, [11, 11]: users 0 to 3, then items 0 to 6."""
    matrix = np.zeros((11, 11))
    for user, history in enumerate(HISTORIES):
        for item in history:
            matrix[user, 4 + item] = matrix[4 + item, user] = 1
    return matrix


def normalised(matrix: np.ndarray) -> np.ndarray:
    """D^-1/2 A D^-1/2 as the authors have it: degrees get 1e-7 more, so that none is zero."""
    scale = np.diag((matrix.sum(axis=1) + 1e-7) ** -0.5)
    return np.asarray(scale @ matrix @ scale)


def dense(product: SparseProduct) -> np.ndarray:
    return product(torch.eye(product.shape[1])).numpy()


def test_an_edge_is_a_pair_of_user_and_item_once(graph: InteractionGraph) -> None:
    assert graph.pairs.tolist() == [[0, 0], [0, 2], [1, 1], [1, 2], [1, 5], [3, 5]]
    assert graph.user_degrees.tolist() == [2, 3, 0, 1]
    assert graph.item_degrees.tolist() == [1, 1, 2, 0, 0, 2, 0]


def test_the_symmetric_product_is_that_of_the_normalised_adjacency(graph: InteractionGraph) -> None:
    np.testing.assert_allclose(dense(graph.symmetric()), normalised(adjacency()), atol=1e-6)


def test_a_smaller_graph_is_normalised_by_its_own_degrees(graph: InteractionGraph) -> None:
    matrix = adjacency()
    for user, item in graph.pairs[[1, 4]].tolist():
        matrix[user, 4 + item] = matrix[4 + item, user] = 0
    kept = torch.tensor([0, 2, 3, 5])
    np.testing.assert_allclose(dense(graph.symmetric(kept)), normalised(matrix), atol=1e-6)


def test_a_graph_may_lose_all_its_edges(graph: InteractionGraph) -> None:
    assert not dense(graph.symmetric(torch.empty(0, dtype=torch.int64))).any()


def test_the_mean_product_averages_neighbours_and_leaves_none_at_zero(graph: InteractionGraph) -> None:
    matrix = adjacency()
    degrees = matrix.sum(axis=1, keepdims=True)
    expected = np.divide(matrix, degrees, out=np.zeros_like(matrix), where=degrees > 0)
    np.testing.assert_allclose(dense(graph.mean()), expected, atol=1e-7)


def test_the_gradient_is_the_product_with_the_transpose(graph: InteractionGraph) -> None:
    torch.manual_seed(0)
    narrow = SparseProduct(
        torch.tensor([2, 0, 2, 2]), torch.tensor([1, 0, 3, 1]), torch.rand(4), (3, 5)
    )  # two entries in one place
    for product in (graph.symmetric(), graph.mean(), narrow):
        x = torch.randn(product.shape[1], 3, requires_grad=True)
        pull = torch.randn(product.shape[0], 3)
        product(x).backward(pull)
        np.testing.assert_allclose(x.grad, dense(product).T @ pull.numpy(), atol=1e-6)


def test_a_product_is_no_part_of_the_saved_weights(graph: InteractionGraph) -> None:
    assert not graph.mean().state_dict()
    assert len(list(graph.symmetric().buffers())) == 3  # its transpose is itself


def test_products_and_neighbours_are_the_same_bits_with_any_number_of_threads(many_threads: None) -> None:
    torch.manual_seed(0)
    places = torch.randint(3000, (2, 40_000))
    product = SparseProduct(*places, torch.rand(40_000), (3000, 3000))
    x, features = torch.randn(3000, 16), torch.randn(1100, 20).round()  # many equal similarities
    found = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        found.append((product(x), nearest_items(features, torch.ones(1100, dtype=torch.bool), 5)))
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])


def test_negatives_are_uniform_over_occurring_items_that_the_user_lacks(graph: InteractionGraph) -> None:
    generator = torch.Generator().manual_seed(1)
    for user, lacking in ((0, [1, 5]), (1, [0]), (2, [0, 1, 2, 5]), (3, [0, 1, 2])):
        drawn = graph.negatives(torch.full((4000,), user), generator)
        counts = torch.bincount(drawn, minlength=7)
        assert torch.nonzero(counts)[:, 0].tolist() == lacking
        share = 1 / len(lacking)
        deviation = (share * (1 - share) / 4000) ** 0.5
        assert ((counts[lacking] / 4000 - share).abs() <= 5 * deviation).all()


def test_each_pair_gets_a_negative_of_its_own_user(graph: InteractionGraph) -> None:
    users = torch.tensor([3, 1, 0, 1])
    drawn = graph.negatives(users, torch.Generator().manual_seed(2))
    for user, item in zip(users.tolist(), drawn.tolist(), strict=True):
        assert item not in HISTORIES[user]


def test_a_user_who_has_every_item_gets_some_of_them() -> None:
    full = InteractionGraph([rows(0, 1, 2), rows(1)], items=3)
    drawn = full.negatives(torch.tensor([0, 0, 1, 0]), torch.Generator().manual_seed(0))
    assert drawn.min() >= 0
    assert drawn[2] in (0, 2)


def literal_neighbours(features: np.ndarray, k: int) -> np.ndarray:
    similar = np.array([[a @ b / np.linalg.norm(a) / np.linalg.norm(b) for b in features] for a in features])
    return np.argsort(-similar, axis=1)[:, :k]


def test_nearest_items_are_those_of_the_largest_cosines() -> None:
    features = np.random.default_rng(3).normal(size=(40, 6)).astype(np.float32)
    found = nearest_items(torch.from_numpy(features), torch.ones(40, dtype=torch.bool), k=4)
    assert found[0].tolist() == np.repeat(np.arange(40), 4).tolist()
    assert found[1].view(40, 4).tolist() == literal_neighbours(features, 4).tolist()


def test_among_equal_items_each_is_its_own_first_neighbour_and_the_lower_row_comes_next() -> None:
    features = torch.tensor([[1.0, 0], [2, 0], [0.1, 0], [3, 0], [0, 1]])
    found = nearest_items(features, torch.ones(5, dtype=torch.bool), k=3)
    assert found[1].view(5, 3).tolist() == [[0, 1, 2], [1, 0, 2], [2, 0, 1], [3, 0, 1], [4, 0, 1]]


def test_items_without_the_feature_have_no_neighbours_and_are_none() -> None:
    features = torch.tensor([[1.0, 0], [1, 0.1], [0, 0], [1, 0], [0, 1]])
    present = torch.tensor([True, True, True, False, True])  # row 2 is zero, and so absent too
    rows_, columns = nearest_items(features, present, k=10)
    assert rows_.tolist() == [0, 0, 0, 1, 1, 1, 4, 4, 4]
    assert columns.tolist() == [0, 1, 4, 1, 0, 4, 4, 1, 0]
    assert nearest_items(features, torch.zeros(5, dtype=torch.bool), k=2).shape == (2, 0)
