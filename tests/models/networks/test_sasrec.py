from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from models.networks.sasrec import SASRec, SASRecConfig

PAPER: dict[str, Any] = {
    "input_norm": True,
    "norm": "post",
    "feed_forward": 32,
    "attention_bias": False,
    "norm_eps": 1e-6,
    "start": "xavier",
}
"""The form of MSRBench's code."""


def network(blocks: int = 2, dropout: float = 0.0, heads: int = 2, **form: Any) -> SASRec:
    torch.manual_seed(0)
    return SASRec(
        SASRecConfig(dimension=8, length=5, blocks=blocks, heads=heads, dropout=dropout, **form)
    ).eval()


@pytest.mark.parametrize("form", [{}, PAPER])
@pytest.mark.parametrize("blocks", [1, 2, 3])
@pytest.mark.parametrize("n", range(1, 6))
def test_the_last_position_alone_equals_the_last_of_all_positions(
    blocks: int, n: int, form: dict[str, Any]
) -> None:
    model, vectors = network(blocks, **form), torch.randn(3, n, 8)
    torch.testing.assert_close(model.last(vectors), model(vectors)[:, -1])


@pytest.mark.parametrize("form", [{}, PAPER])
def test_no_position_reads_a_later_item(form: dict[str, Any]) -> None:
    model, vectors = network(**form), torch.randn(1, 5, 8)
    changed = vectors.clone()
    changed[:, 3:] = torch.randn(1, 2, 8)
    torch.testing.assert_close(model(changed)[:, :3], model(vectors)[:, :3])
    assert not torch.allclose(model(changed)[:, 3], model(vectors)[:, 3])


def test_the_order_of_items_matters() -> None:
    model, vectors = network(), torch.randn(1, 5, 8)
    assert not torch.allclose(model.last(vectors[:, [1, 0, 2, 3, 4]]), model.last(vectors), atol=1e-4)


def test_positions_count_from_the_newest_item() -> None:
    model, vectors = network(), torch.randn(1, 2, 8)
    before = model.last(vectors)
    with torch.no_grad():
        model.positions[:3].normal_()  # positions that only longer histories reach
    torch.testing.assert_close(model.last(vectors), before)
    with torch.no_grad():
        model.positions[4].normal_()
    assert not torch.allclose(model.last(vectors), before)


def test_users_of_one_batch_do_not_see_each_other() -> None:
    model, vectors = network(), torch.randn(4, 3, 8)
    torch.testing.assert_close(model.last(vectors)[1:2], model.last(vectors[1:2]))


def test_attention_is_the_one_of_the_paper() -> None:
    """One block written out as section III-B of the paper has it, in plain tensors."""
    model, x = network(blocks=1, heads=1), torch.randn(1, 4, 8)
    (block,) = model.blocks
    embedded = x + model.positions[1:]
    normed = block.attention_norm(embedded)
    key, value = block.attention.key_value(normed).chunk(2, dim=-1)
    weights = block.attention.query(normed) @ key.transpose(1, 2) / 8**0.5
    weights = weights.masked_fill(torch.ones(4, 4).triu(1).bool(), float("-inf")).softmax(-1)
    attended = embedded + block.attention.output(weights @ value)
    norm, first, _, _, second = block.feed_forward
    expected = model.norm(attended + second(torch.relu(first(norm(attended)))))
    torch.testing.assert_close(model(x), expected)


@pytest.mark.parametrize("form", [{}, PAPER])
def test_packed_sequences_have_the_states_and_gradients_of_each_alone(form: dict[str, Any]) -> None:
    model, lengths = network(**form), [3, 1, 5, 3]
    vectors = torch.randn(sum(lengths), 8, requires_grad=True)
    apart = torch.cat([model(each[None])[0] for each in vectors.split(lengths)])
    packed = model.packed(vectors, torch.tensor(lengths))
    torch.testing.assert_close(packed, apart)
    weights = torch.randn_like(packed)
    inputs = [vectors, *model.parameters()]
    for one, other in zip(
        torch.autograd.grad((packed * weights).sum(), inputs),
        torch.autograd.grad((apart * weights).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


def layer_norm(x: Any) -> Any:
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)


def test_the_form_of_the_authors_code_is_the_one_written_out_in_numpy() -> None:
    """IDvs.MoRec: LN(x + positions), then LN(x + attention) and LN(x + net) per block, and no other norm."""
    model, x = network(blocks=2, heads=2, **PAPER), torch.randn(1, 4, 8)
    with torch.no_grad():
        for parameter in model.parameters():  # biases too
            parameter.add_(torch.randn_like(parameter) * 0.1)
        for norm in model.modules():
            if isinstance(norm, torch.nn.LayerNorm):
                norm.reset_parameters()  # so that layer_norm above is the whole of it
    weight = {name: value.numpy().astype(float) for name, value in model.state_dict().items()}
    state = layer_norm(x[0].numpy() + weight["positions"][1:])
    for at in range(2):
        block = f"blocks.{at}."
        query = state @ weight[f"{block}attention.query.weight"].T
        key_value = state @ weight[f"{block}attention.key_value.weight"].T
        mixed = np.zeros((4, 8))
        for head in (slice(0, 4), slice(4, 8)):
            key, value = key_value[:, :8][:, head], key_value[:, 8:][:, head]
            for t in range(4):  # reads positions 0..t
                odds = np.exp(query[t, head] @ key[: t + 1].T / 4**0.5)
                mixed[t, head] = odds / odds.sum() @ value[: t + 1]
        state = layer_norm(state + mixed @ weight[f"{block}attention.output.weight"].T)
        net = f"{block}feed_forward."
        hidden = np.maximum(0, state @ weight[f"{net}0.weight"].T + weight[f"{net}0.bias"])
        state = layer_norm(state + hidden @ weight[f"{net}2.weight"].T + weight[f"{net}2.bias"])
    np.testing.assert_allclose(model(x)[0].detach().numpy(), state, atol=1e-5)


@pytest.mark.parametrize("name", PAPER)
def test_every_setting_of_the_form_changes_what_is_computed(name: str) -> None:
    # Steep enough that 1e-6 and 1e-5 under the root differ.
    vectors = torch.randn(1, 4, 8, generator=torch.Generator().manual_seed(1)) * 1e-3
    other = network(**{name: PAPER[name]})
    assert not torch.equal(other(vectors), network()(vectors))


def test_xavier_starts_keys_and_values_as_two_matrices_and_biases_at_zero() -> None:
    torch.manual_seed(0)
    config = SASRecConfig(
        dimension=64, length=9, blocks=1, heads=1, dropout=0.0, start="xavier", feed_forward=256
    )
    (block,) = (model := SASRec(config)).blocks
    wide = next(each for each in block.feed_forward if isinstance(each, torch.nn.Linear))
    assert wide.weight.detach().std() == pytest.approx((2 / (64 + 256)) ** 0.5, rel=0.05)
    for half in block.attention.key_value.weight.detach().chunk(2):
        assert half.std() == pytest.approx((2 / 128) ** 0.5, rel=0.05)
    assert model.positions.detach().std() == pytest.approx((2 / 73) ** 0.5, rel=0.1)
    biases = [value.detach() for name, value in model.named_parameters() if name.endswith("bias")]
    assert not torch.cat(biases).any()


def test_networks_of_before_the_settings_have_the_same_weights_under_the_same_names() -> None:
    names = [name.removeprefix("blocks.0.") for name in network(blocks=1).state_dict()]
    layers = ["attention_norm", "attention.query", "attention.key_value", "attention.output"]
    layers += ["feed_forward.0", "feed_forward.1", "feed_forward.4", "norm"]
    assert names == ["positions", *(f"{layer}.{part}" for layer in layers for part in ("weight", "bias"))]


def test_every_size_changes_the_network() -> None:
    def weights(**changes: int) -> int:
        sizes = {"dimension": 8, "length": 5, "blocks": 2, "heads": 2} | changes
        return sum(p.numel() for p in SASRec(SASRecConfig(**sizes, dropout=0.0)).parameters())

    assert weights(dimension=16) > weights()
    assert weights(length=6) == weights() + 8
    assert weights(blocks=3) > weights()
    vectors = torch.randn(1, 4, 8)
    assert not torch.allclose(network(heads=4)(vectors), network(heads=2)(vectors))


def test_dropout_acts_in_training_only() -> None:
    model, vectors = network(dropout=0.5), torch.randn(1, 4, 8)
    assert torch.equal(model(vectors), model(vectors))
    model.train()
    assert not torch.equal(model(vectors), model(vectors))


@pytest.mark.parametrize("shape", [(1, 6, 8), (1, 3, 7), (3, 8)])
def test_a_wrong_shape_is_refused_at_the_boundary(shape: tuple[int, ...]) -> None:
    with pytest.raises((AssertionError, IndexError)):
        network()(torch.randn(shape))
