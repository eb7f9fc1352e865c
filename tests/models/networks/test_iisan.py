from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_data import rows

from models.contracts import Item
from models.data.dataset import Dataset
from models.errors import DataError
from models.features import Features
from models.networks import iisan
from models.networks.base import TrainingData
from models.networks.iisan import IISAN, log_frequency
from models.training.config import CONFIGS, ConfigError, from_json, load
from models.training.fingerprint import fingerprint
from models.training.loop import build, train
from models.training.run import Origin, Run

KINDS, SIZE = 12, 8
ITEMS = KINDS * SIZE
BLOCKS, WIDTH = 7, 8
PADDING = -1


def record(**sections: dict[str, Any]) -> dict[str, Any]:
    """A small configuration as plain values, with some of them changed."""
    values: dict[str, Any] = {
        "family": "iisan",
        "network": {"dimension": 16, "length": 5, "blocks": 1, "heads": 2, "dropout": 0.1},
        "adapters": {"hidden": 4, "pictures": "layers"},
        "training": {
            "seed": 1,
            "epochs": 2,
            "patience": 2,
            "sequences": 16,
            "learning_rate": 0.01,
            "adapter_rate": 0.002,
            "text_rate": 0.001,
            "image_rate": 0.002,
            "weight_decay": 0.0,
        },
        "features": {"text_pooling": "layers", "image_output": "layers", "image_encoder": "some-vit"},
    }
    for section, changes in sections.items():
        values[section] = {**values.get(section, {}), **changes}
    return values


def network(histories: list[list[int]], items: int, **sections: dict[str, Any]) -> IISAN:
    """A network with random states, and random weights as after a training."""
    torch.manual_seed(0)
    states = [(torch.randn(items, BLOCKS, WIDTH), torch.ones(items, dtype=torch.bool)) for _ in range(2)]
    data = TrainingData(
        items, [rows(*each) for each in histories], dict(zip(("text", "image"), states, strict=True))
    )
    config = from_json(record(**sections), "toy")
    built = IISAN(config, data)  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in built.side.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.1)
    return built.eval()


def padded(histories: list[list[int]], length: int = 6) -> torch.Tensor:
    """A batch as the network takes it, with -1s behind short sequences."""
    return torch.tensor([history + [PADDING] * (length - len(history)) for history in histories])


def padded_states(encoder: Any, vectors: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """The transformer over sequences [B, L, d] that are padded in front, with padding masked as a key."""
    length, heads = encoder.config.length, encoder.config.heads
    x = encoder.input_norm(vectors + encoder.positions)
    seen = real[:, None, None, :] & torch.ones(length, length).tril().bool()  # [B, 1, L, L]
    for block in encoder.blocks:
        projected = (block.attention.query(x), *block.attention.key_value(x).chunk(2, dim=-1))
        q, k, v = (each.unflatten(-1, (heads, -1)).transpose(1, 2) for each in projected)  # [B, h, L, d/h]
        logits = (q @ k.mT / q.shape[-1] ** 0.5).where(seen, torch.tensor(-1e9))
        mixed = (logits.softmax(dim=-1) @ v).transpose(1, 2).flatten(2)
        x = block.attention_norm(x + block.attention.output(mixed))
        x = block.feed_forward_norm(x + block.feed_forward(x))
    states: torch.Tensor = x
    return states


def literal_loss(model: IISAN, histories: list[list[int]], counts: dict[int, int]) -> float:
    """The loss over all slots of a batch padded in front, one position and one slot after the other."""
    batch = [[PADDING] * (6 - len(history)) + history for history in histories]
    vectors = model.item_vectors().detach()
    inputs = torch.tensor(batch)[:, :-1]
    real = inputs != PADDING
    users = padded_states(model.network, vectors[inputs.clamp(min=0)] * real[..., None], real).detach()
    total, losses = sum(counts.values()), []
    for row, sequence in enumerate(batch):
        own = {item for item in sequence if item != PADDING}
        for at in range(1, len(sequence)):
            if sequence[at - 1] == PADDING:
                continue
            logits, wanted = [], math.nan
            for other_row, other in enumerate(batch):
                for place, item in enumerate(other):
                    target = other_row == row and place == at
                    if item == PADDING or (item in own and not target):
                        logits.append(-1e4)
                    else:
                        logits.append(
                            float(users[row, at - 1] @ vectors[item]) - math.log(counts[item] / total)
                        )
                    if target:
                        wanted = logits[-1]
            losses.append(np.logaddexp.reduce(logits) - wanted)
    return float(np.mean(losses))


def test_the_loss_equals_the_literal_one_over_all_slots_of_the_padded_batch() -> None:
    # Of three lengths; with an item twice in one sequence, and items that other sequences have too.
    histories = [[0, 1, 2, 3, 4, 5], [6, 7, 1], [2, 8, 2, 9], [9, 4, 7], [0, 1, 2, 3, 4, 5]]
    form = {"norm": "post", "input_norm": True, "feed_forward": 64, "attention_bias": False, "blocks": 2}
    model = network(histories, items=11, network=form)
    counts = {item: sum(history.count(item) for history in histories) for item in range(10)}
    loss = model.loss(padded(histories[:4]), torch.Generator())
    assert loss.item() == pytest.approx(literal_loss(model, histories[:4], counts), rel=1e-5)


def test_the_order_of_a_batch_changes_no_loss() -> None:
    histories = [[0, 1, 2, 3, 4, 5], [6, 7, 1], [2, 8, 2, 9], [9, 4, 7]]
    model = network(histories, items=11)
    batch = padded(histories)
    one, other = (model.loss(each, torch.Generator()) for each in (batch, batch.flip(0)))
    torch.testing.assert_close(one, other)


def test_a_batch_of_one_sequence_has_nothing_to_learn_from_and_no_nan() -> None:
    model = network([[0, 1, 2, 3]], items=4)
    loss = model.loss(padded([[0, 1, 2, 3]]), torch.Generator())
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == 0
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in model.parameters())


def test_an_item_outside_of_all_sequences_has_a_finite_frequency() -> None:
    log_q = log_frequency({2: torch.tensor([[0, 1, 1]]), 3: torch.tensor([[1, 2, 2, 0]])}, items=4)
    torch.testing.assert_close(log_q.exp(), torch.tensor([2, 3, 2, 1]) / 7)


def test_the_vectors_of_a_batch_are_those_of_the_catalogue(monkeypatch: pytest.MonkeyPatch) -> None:
    model = network([[0, 1, 2, 3]], items=11)
    monkeypatch.setattr(iisan, "BLOCK", 4)
    some = torch.tensor([10, 3, 7])
    torch.testing.assert_close(model.side(some), model.item_vectors()[some])
    assert model.item_vectors().shape == (11, 16)


@pytest.mark.parametrize(
    ("windows", "expected"),
    [
        ("last", [[2, 3, 4, 5, 6], [9, 10, 11, PADDING, PADDING]]),
        ("all", [[0, 1, 2, PADDING, PADDING], [2, 3, 4, 5, 6], [9, 10, 11, PADDING, PADDING]]),
    ],
)
def test_users_with_five_items_or_more_are_learned_from(windows: str, expected: list[list[int]]) -> None:
    model = network(
        [list(range(7)), [7, 8], [9, 10, 11]],
        items=12,
        network={"length": 4},
        training={"windows": windows, "sequences": 5},
    )
    (batch,) = model.batches(torch.Generator().manual_seed(0))
    assert sorted(batch.tolist()) == expected


def test_every_epoch_takes_each_sequence_once() -> None:
    model = network([[item, item + 1, item + 2] for item in range(40)], items=42)
    epochs = [torch.cat(list(model.batches(torch.Generator().manual_seed(seed)))) for seed in (1, 2)]
    assert not torch.equal(*epochs)
    assert all(sorted(epoch[:, 2].tolist()) == list(range(2, 42)) for epoch in epochs)


def test_every_parameter_learns_at_the_rate_that_the_authors_give_it() -> None:
    model = network([[0, 1, 2, 3]], items=4)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    rates = {names[id(p)]: g["lr"] for g in model.optimiser().param_groups for p in g["params"]}
    assert rates.keys() == set(names.values())
    assert {rate for name, rate in rates.items() if "adapters" in name} == {0.002}
    assert rates["side.text.dense.weight"] == rates["side.text.dense.bias"] == 0.001
    assert rates["side.image.dense.weight"] == rates["side.image.gate_weights"] == 0.002
    others = ("side.text.gate_weights", "side.both.dense.weight", "side.fusion.weight", "network.positions")
    assert {rates[name] for name in others} == {0.01}


@pytest.mark.parametrize(("dataset", "rate"), [("beauty", 5e-4), ("sports", 2e-4), ("toys", 3e-4)])
def test_the_paper_has_its_own_rate_for_each_data_set(dataset: str, rate: float) -> None:
    for name, dimension in (("iisan-paper", 64), ("iisan-paper-512", 512)):
        config: Any = load(CONFIGS / f"{name}.toml", dataset=dataset)
        assert config.training.learning_rate == rate
        assert config.network.dimension == dimension


def kinds() -> tuple[Dataset, dict[str, Features]]:
    """Users who take all items of one kind, which title and picture show together and neither alone.

    The last item of a user is the only one of the kind that is left, so the right answer is known.
    """
    generator = np.random.default_rng(5)
    histories = tuple(
        (kind * SIZE + generator.permutation(SIZE)).astype(np.int32)
        for kind in generator.permutation(np.repeat(np.arange(KINDS), 12))
    )
    items = tuple(Item(f"I{row:03d}", title=f"Thing {row}") for row in range(ITEMS))
    users = tuple(f"u{user}" for user in range(len(histories)))
    kind = np.arange(ITEMS) // SIZE
    features = {}
    for modality, shown in (("text", kind // 4), ("image", kind % 4)):
        codes = generator.normal(size=(4, BLOCKS, WIDTH))
        values = codes[shown] + 0.1 * generator.normal(size=(ITEMS, BLOCKS, WIDTH))
        features[modality] = Features(values.astype(np.float32), np.ones(ITEMS, dtype=bool))
    return Dataset("kinds", items, users, histories), features


def trained(folder: Path, dataset: Dataset, features: dict[str, Features], **training: Any) -> dict[str, Any]:
    config = from_json(record(training=training), "toy")
    run = Run(folder)
    run.start(config, Origin("toy", "data", "somewhere", None, dataset.name, fingerprint(dataset, config)))
    return train(build(config, dataset, features), dataset, run, torch.device("cpu"))


def test_a_kind_that_title_and_picture_show_together_is_learned(tmp_path: Path) -> None:
    dataset, features = kinds()
    result = trained(tmp_path / "run", dataset, features, epochs=5, patience=5)
    assert result["metrics"]["test"]["H@1"] >= 0.9
    blank = Features(np.zeros_like(features["image"].values), features["image"].present)
    result = trained(tmp_path / "alone", dataset, {**features, "image": blank}, epochs=5, patience=5)
    assert result["metrics"]["test"]["H@1"] < 0.5


def test_a_checkpoint_holds_neither_states_nor_frequencies(tmp_path: Path) -> None:
    trained(tmp_path / "run", *kinds(), epochs=1, patience=1)
    weights = Run(tmp_path / "run").best()
    assert not {"log_q", "side.text_states.states", "side.image_states.states"} & weights.keys()


def test_data_without_pictures_are_refused() -> None:
    dataset, features = kinds()
    with pytest.raises(ValueError, match="iisan needs image features"):
        build(from_json(record(), "toy"), dataset, {"text": features["text"]})


def test_users_with_few_items_alone_are_refused_with_a_sentence() -> None:
    dataset, features = kinds()
    short = replace(dataset, histories=tuple(history[:4] for history in dataset.histories))
    with pytest.raises(DataError, match="no user has five items"):
        build(from_json(record(), "toy"), short, features)


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"features": {"text_pooling": "mean"}}, 'features.text_pooling must be "layers"'),
        ({"features": {"image_output": "projected"}}, "must both be"),
        ({"adapters": {"pictures": "single"}}, "must both be"),
        ({"adapters": {"hidden": 0}}, "hidden must be at least 1"),
        ({"training": {"sequences": 0}}, "sequences must be at least 1"),
        ({"training": {"text_rate": 0.0}}, "text_rate and image_rate must be above 0"),
        ({"training": {"windows": "first"}}, "one of all, last"),
        ({"tower": {"modalities": ["text"]}}, "unknown key tower"),
    ],
)
def test_settings_that_make_no_sense_are_refused(sections: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        from_json(record(**sections), "toy")
