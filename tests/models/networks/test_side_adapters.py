from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from models.features import FeatureError
from models.networks.side_adapters import Branch, SideAdapters, SideAdaptersConfig

ITEMS, BLOCKS, WIDTH, DIMENSION = 6, 7, 8, 4

Values = NDArray[np.float64]


def states(seed: int, *shape: int, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    drawn = torch.randn(ITEMS, *shape, generator=torch.Generator().manual_seed(seed))
    return drawn.to(dtype), torch.ones(ITEMS, dtype=torch.bool)


def side(image: tuple[torch.Tensor, torch.Tensor], pictures: str = "layers") -> SideAdapters:
    """Side adapters with random weights, gates and missing states, as after a training."""
    config = SideAdaptersConfig(hidden=3, pictures=pictures)  # type: ignore[arg-type]
    network = SideAdapters(config, DIMENSION, states(1, BLOCKS, WIDTH), image)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return network


def plain(tensor: torch.Tensor) -> Values:
    return np.asarray(tensor.detach().double().numpy())


def linear(layer: Any, x: Values) -> Values:
    return np.asarray(plain(layer.weight) @ x + plain(layer.bias))


def adapted(branch: Branch, k: int, x: Values) -> Values:
    adapter: Any = branch.adapters[k]
    return np.asarray(x + linear(adapter.up, np.maximum(linear(adapter.down, x), 0)))


def literal(network: SideAdapters, text: Values, image: Values) -> Values:
    """The vector of one item, from its hidden states [K, w], one block after the other."""
    t, v, m = np.zeros(WIDTH), np.zeros(WIDTH), np.zeros(WIDTH)
    for k in range(BLOCKS):
        g_t, g_v, g_m = (
            1 / (1 + np.exp(-plain(branch.gate_weights)[k] / 0.1))
            for branch in (network.text, network.image, network.both)
        )
        t = adapted(network.text, k, g_t * text[k] + (1 - g_t) * t)
        v = adapted(network.image, k, g_v * image[k] + (1 - g_v) * v)
        m = adapted(network.both, k, m + g_m * image[k] + (1 - g_m) * text[k])
    ends = [
        linear(branch.output, linear(branch.dense, x))
        for branch, x in ((network.image, v), (network.text, t), (network.both, m))
    ]
    return linear(network.fusion, np.concatenate(ends))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_item_vectors_equal_the_literal_block_by_block_computation(dtype: torch.dtype) -> None:
    image = states(2, BLOCKS, WIDTH, dtype=dtype)
    network = side(image)
    text = states(1, BLOCKS, WIDTH)[0]
    expected = [literal(network, plain(text[row]), plain(image[0][row])) for row in (4, 0)]
    vectors = network(torch.tensor([4, 0]))
    assert vectors.dtype == torch.float32
    np.testing.assert_allclose(plain(vectors), expected, rtol=1e-5, atol=1e-5)


def test_a_single_feature_counts_as_its_map_to_the_text_width_in_every_block() -> None:
    image = states(2, 5)
    network = side(image, "single")
    text = plain(states(1, BLOCKS, WIDTH)[0][2])
    mapped = linear(network.image_states.project, plain(image[0][2]))
    expected = literal(network, text, np.tile(mapped, (BLOCKS, 1)))
    np.testing.assert_allclose(plain(network(torch.tensor([2])))[0], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("shape", "pictures"), [((BLOCKS, WIDTH), "layers"), ((5,), "single")])
def test_items_without_a_picture_share_what_is_learned_for_them(
    shape: tuple[int, ...], pictures: str
) -> None:
    values, present = states(2, *shape)
    present[[1, 4]] = False
    network = side((values, present), pictures)
    image_states = network.image_states(torch.arange(ITEMS))
    torch.testing.assert_close(image_states[1], image_states[4])
    assert not torch.allclose(image_states[1], image_states[0])
    network(torch.tensor([1])).sum().backward()
    missing = dict(network.named_parameters())[
        "image_states.missing" if pictures == "layers" else "image_states.feature.missing"
    ]
    assert missing.grad is not None
    assert missing.grad.abs().min() > 0


def test_at_first_gates_are_half_open_and_adapters_change_little() -> None:
    network = SideAdapters(
        SideAdaptersConfig(hidden=3), DIMENSION, states(1, BLOCKS, WIDTH), states(2, BLOCKS, WIDTH)
    )
    x = torch.randn(2, WIDTH)
    for branch in (network.text, network.image, network.both):
        assert branch.gates().tolist() == [0.5] * BLOCKS
        for adapter in branch.adapters:
            torch.testing.assert_close(adapter(x), x, atol=0.01, rtol=0)


@pytest.mark.parametrize(
    ("text", "image", "pictures", "said"),
    [
        ((7, 8), (7, 9), "layers", "gives 7 states of width 8 and the image encoder 7 of 9"),
        ((7, 8), (4, 8), "layers", "gives 7 states of width 8 and the image encoder 4 of 8"),
        ((8,), (7, 8), "layers", 'features.text_pooling to "layers"'),
        ((7, 8), (8,), "layers", 'features.image_output to "layers"'),
        ((7, 8), (7, 8), "single", 'adapters.pictures to "layers"'),
    ],
)
def test_states_that_do_not_fit_together_are_refused(
    text: tuple[int, ...], image: tuple[int, ...], pictures: str, said: str
) -> None:
    config = SideAdaptersConfig(hidden=3, pictures=pictures)  # type: ignore[arg-type]
    with pytest.raises(FeatureError, match=said):
        SideAdapters(config, DIMENSION, states(1, *text), states(2, *image))
