from __future__ import annotations

import pytest
import torch

from models.networks.sasrec import SASRec, SASRecConfig


def network(blocks: int = 2, dropout: float = 0.0, heads: int = 2) -> SASRec:
    torch.manual_seed(0)
    return SASRec(SASRecConfig(dimension=8, length=5, blocks=blocks, heads=heads, dropout=dropout)).eval()


@pytest.mark.parametrize("blocks", [1, 2, 3])
@pytest.mark.parametrize("n", range(1, 6))
def test_the_last_position_alone_equals_the_last_of_all_positions(blocks: int, n: int) -> None:
    model, vectors = network(blocks), torch.randn(3, n, 8)
    torch.testing.assert_close(model.last(vectors), model(vectors)[:, -1])


def test_no_position_reads_a_later_item() -> None:
    model, vectors = network(), torch.randn(1, 5, 8)
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
