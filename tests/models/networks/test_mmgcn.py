from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from models.contracts import Item
from models.data.dataset import Dataset
from models.features import Features
from models.networks.base import TrainingData
from models.networks.graph.interaction_graph import InteractionGraph
from models.networks.mmgcn import MMGCN
from models.training.config import CONFIGS, ConfigError, from_json, load
from models.training.fingerprint import fingerprint
from models.training.loop import build, train
from models.training.run import Origin, Run
from models.training.scoring import scorer_for

Array = NDArray[np.float64]

USERS, ITEMS, D = 7, 6, 4
LONE, BARE = 5, 2  # an item without training pair, an item without features
HISTORIES = [[0, 1], [1, 2, 0], [3], [4, 3, 1], [2, 4], [0, 4, 4, 2], [3, 2]]
PRESETS = {"mmrec": (0, 3, False), "paper": (0, 0, True), "fast": (3, 3, True)}
BOTH = ("text", "image")


def configuration(**changes: Any) -> Any:
    values: dict[str, dict[str, Any]] = {
        "network": {
            "modalities": ["text", "image"],
            "dimension": D,
            "layers": 3,
            "text_latent": 0,
            "image_latent": 3,
            "trainable_codes": True,
        },
        "training": {
            "seed": 1,
            "epochs": 4,
            "patience": 4,
            "learning_rate": 0.01,
            "weight_decay": 0.0,
            "batch": 4,
            "regularisation": 0.5,
        },
    }
    for name, value in changes.items():
        section = next((section for section in values if name in values[section]), "features")
        values.setdefault(section, {})[name] = value
    return from_json({"family": "mmgcn", **values}, "toy")


def raw(modality: str) -> tuple[Array, NDArray[np.bool_]]:
    generator = np.random.default_rng(len(modality))
    values = generator.normal(size=(ITEMS, {"text": 5, "image": 4}[modality]))
    present = np.arange(ITEMS) != BARE
    return values * present[:, None], present


def training_data(modalities: tuple[str, ...] = BOTH) -> TrainingData:
    features = {modality: raw(modality) for modality in modalities}
    histories = [np.array(history, dtype=np.int32) for history in HISTORIES]
    tensors = {
        name: (torch.from_numpy(values).float(), torch.from_numpy(present))
        for name, (values, present) in features.items()
    }
    return TrainingData(ITEMS, histories, tensors)


def network(**changes: Any) -> MMGCN:
    settings = configuration(**changes)
    torch.manual_seed(3)
    return MMGCN(settings, training_data(settings.modalities))


def of_preset(preset: str, modalities: tuple[str, ...] = BOTH, **changes: Any) -> MMGCN:
    text, image, trainable = PRESETS[preset]
    return network(
        modalities=list(modalities),
        text_latent=text,
        image_latent=image,
        trainable_codes=trainable,
        **changes,
    )


def leaky(x: Array) -> Array:
    return np.where(x > 0, x, 0.01 * x)


def literal(state: dict[str, Array], modalities: tuple[str, ...]) -> Array:
    """Computes R [N, d] as the paper and MMRec write it: dense adjacency, every node, (A x W)."""
    edges = np.zeros((USERS + ITEMS, USERS + ITEMS))
    for user, history in enumerate(HISTORIES):
        for item in history:
            edges[user, USERS + item] = edges[USERS + item, user] = 1  # what is bought twice counts once
    mean = np.zeros_like(edges)
    for node, row in enumerate(edges):
        if row.sum() > 0:
            mean[node] = row / row.sum()
    branches = []
    for modality in modalities:
        own = {key.split(".", 2)[2]: value for key, value in state.items() if f".{modality}." in key}
        values, present = raw(modality)
        values[~present] = values[present].mean(axis=0)
        if "project.weight" in own:
            values = values @ own["project.weight"].T + own["project.bias"]
        x = np.concatenate([own["preferences"], values])
        x = x / np.sqrt((x**2).sum(axis=1, keepdims=True))
        for at in range(sum(key.endswith("neighbours.weight") for key in own)):
            w1, w2, b2, w3, b3 = (
                own[f"layers.{at}.{name}"]
                for name in ("neighbours.weight", "own.weight", "own.bias", "joined.weight", "joined.bias")
            )
            h = leaky(mean @ (x @ w1.T))  # (1)
            hat = leaky(x @ w2.T + b2) + state["ids"]  # (5)
            x = leaky(np.concatenate([h, hat], axis=1) @ w3.T + b3)
        branches.append(x)
    return np.asarray(np.mean(branches, axis=0))


def literal_loss(
    state: dict[str, Array], modalities: tuple[str, ...], batch: list[list[int]], weight: float
) -> float:
    vectors, ids = literal(state, modalities), state["ids"]
    losses, user_rows, item_rows = [], [], []
    for user, positive, negative in batch:
        score = [vectors[user] @ vectors[USERS + item] for item in (positive, negative)]
        losses.append(-np.log(1 / (1 + np.exp(-(score[0] - score[1])))))
        user_rows += [user, user]
        item_rows += [USERS + positive, USERS + negative]
    squares = (ids[user_rows] ** 2 + ids[item_rows] ** 2).mean()
    if "image" in modalities:
        squares += (state["branches.image.preferences"] ** 2).mean()
    return float(np.mean(losses) + weight * squares)


def arrays(built: MMGCN) -> dict[str, Array]:
    return {key: value.double().numpy().copy() for key, value in built.state_dict().items()}


@pytest.mark.parametrize("modalities", [("text",), ("image",), BOTH])
@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("layers", [1, 3])
def test_the_vectors_are_those_of_the_equations(
    preset: str, modalities: tuple[str, ...], layers: int
) -> None:
    built = of_preset(preset, modalities, layers=layers).eval()
    expected = literal(arrays(built), modalities)
    np.testing.assert_allclose(built.user_vectors().detach(), expected[:USERS], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(built.item_vectors().detach(), expected[USERS:], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("modalities", [("text",), BOTH])
@pytest.mark.parametrize("preset", PRESETS)
def test_the_loss_is_that_of_the_equations_and_so_is_its_slope(
    preset: str, modalities: tuple[str, ...]
) -> None:
    built = of_preset(preset, modalities).train()
    generator = torch.Generator().manual_seed(0)
    built.batches(generator)
    batch = [[0, 1, 3], [3, 3, 0], [0, 0, LONE]]
    loss = built.loss(torch.tensor(batch), generator)
    state = arrays(built)
    assert loss.item() == pytest.approx(literal_loss(state, modalities, batch, 0.5), rel=1e-5)
    loss.backward()  # type: ignore[no-untyped-call]
    for name, weight in built.named_parameters():
        assert weight.grad is not None, name
        at = np.unravel_index(int(weight.grad.abs().argmax()), weight.shape)
        moved = [{**state, name: state[name].copy()} for _ in range(2)]
        moved[0][name][at] += 1e-5
        moved[1][name][at] -= 1e-5
        up, down = (literal_loss(each, modalities, batch, 0.5) for each in moved)
        assert weight.grad[at].item() == pytest.approx((up - down) / 2e-5, rel=2e-3, abs=1e-6), name


def test_a_step_computes_the_same_with_all_nodes_as_with_those_that_it_needs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    built, generator = of_preset("fast").train(), torch.Generator()
    built.batches(generator)
    batch = torch.tensor([[2, 3, 5]])
    some = built.loss(batch, generator)
    monkeypatch.setattr("models.networks.mmgcn.MOST_OF_THE_GRAPH", 0.0)
    torch.testing.assert_close(built.loss(batch, generator), some)


def steps(built: MMGCN, epochs: int = 1) -> MMGCN:
    optimiser, generator = built.optimiser(), torch.Generator().manual_seed(5)
    for _ in range(epochs):
        for batch in built.train().batches(generator):
            optimiser.zero_grad()
            built.loss(batch, generator).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
    return built


@pytest.mark.parametrize("preset", PRESETS)
def test_codes_change_while_training_only_where_they_are_trainable(preset: str) -> None:
    before, after = arrays(of_preset(preset)), arrays(steps(of_preset(preset)))
    codes = {"ids", "branches.text.preferences", "branches.image.preferences"}
    changed = {key for key in before if not np.array_equal(before[key], after[key])}
    assert changed >= before.keys() - codes
    assert changed & codes == (codes if PRESETS[preset][2] else set())


def test_weights_that_are_loaded_bring_their_fixed_codes_with_them() -> None:
    built = steps(of_preset("mmrec")).eval()
    torch.manual_seed(99)
    other = MMGCN(configuration(trainable_codes=False), training_data())
    steps(other).load_state_dict(built.state_dict())
    assert torch.equal(other.eval().user_vectors(), built.user_vectors())
    assert torch.equal(other.item_vectors(), built.item_vectors())


def test_means_over_items_and_over_users_are_the_two_sides_of_the_mean_over_neighbours() -> None:
    graph = InteractionGraph([np.array(history, dtype=np.int32) for history in HISTORIES], ITEMS)
    x = torch.rand(USERS + ITEMS, 3)
    sides = torch.cat([graph.mean_of_items()(x[USERS:]), graph.mean_of_users()(x[:USERS])])
    torch.testing.assert_close(sides, graph.mean()(x))


def test_features_are_no_part_of_the_saved_weights() -> None:
    assert not any(
        "values" in key or "contents" in key or "means" in key for key in of_preset("paper").state_dict()
    )


def test_an_epoch_has_every_training_pair_once_each_with_an_item_that_its_user_does_not_have() -> None:
    triples = torch.cat(list(network().batches(torch.Generator().manual_seed(0)))).tolist()
    pairs = sorted({(user, item) for user, history in enumerate(HISTORIES) for item in history})
    assert sorted((user, item) for user, item, _ in triples) == pairs
    assert not any(negative in HISTORIES[user] for user, _, negative in triples)
    assert LONE not in {negative for *_, negative in triples}  # it does not occur in training


BLOCKS, SIZE = 8, 6


def blocks() -> tuple[Dataset, dict[str, Features]]:
    """Users who take all items of one block in random order, and features that say nothing about blocks."""
    generator = np.random.default_rng(4)
    histories = [
        (user % BLOCKS * SIZE + generator.permutation(SIZE)).astype(np.int32) for user in range(10 * BLOCKS)
    ]
    items = tuple(Item(f"I{row}", title=f"Thing {row}") for row in range(BLOCKS * SIZE))
    noise = generator.normal(size=(len(items), 8)).astype(np.float32)
    users = tuple(f"u{user}" for user in range(len(histories)))
    dataset = Dataset("blocks", items, users, tuple(histories))
    return dataset, {"text": Features(noise, np.ones(len(items), dtype=bool))}


def trained(folder: Path, preset: str, dimension: int = 16, **changes: Any) -> tuple[MMGCN, dict[str, Any]]:
    dataset, features = blocks()
    text, _, trainable = PRESETS[preset]
    settings = configuration(
        modalities=["text"],
        text_latent=text and 8,
        trainable_codes=trainable,
        dimension=dimension,
        batch=64,
        regularisation=0.01,
        **changes,
    )
    run = Run(folder)
    run.start(
        settings, Origin("toy", "data", "somewhere", None, dataset.name, fingerprint(dataset, settings))
    )
    built = build(settings, dataset, features)
    assert isinstance(built, MMGCN)
    return built, train(built, dataset, run, torch.device("cpu"))


@pytest.mark.parametrize("preset", ["mmrec", pytest.param("paper", marks=pytest.mark.slow), "fast"])
def test_every_preset_learns_blocks_that_features_do_not_show(preset: str, tmp_path: Path) -> None:
    _, result = trained(tmp_path, preset, dimension=64, epochs=50, patience=50)
    assert result["metrics"]["test"]["H@1"] >= 0.9


@pytest.mark.parametrize("preset", PRESETS)
def test_a_run_in_two_parts_ends_with_the_bits_of_a_run_in_one(preset: str, tmp_path: Path) -> None:
    whole, expected = trained(tmp_path / "whole", preset, epochs=4)
    trained(tmp_path / "parts", preset, epochs=2)
    resumed, result = trained(tmp_path / "parts", preset, epochs=4)
    for key, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[key], value), key
    assert result["metrics"] == expected["metrics"]
    saved = Run(tmp_path / "parts")
    assert np.array_equal(saved.item_vectors(), scorer_for(whole).item_vectors)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"modalities": []}, "modalities must name text, image or both, each once"),
        ({"modalities": ["text", "text"]}, "modalities must name text, image or both, each once"),
        ({"modalities": ["id"]}, "network.modalities must be one of text, image"),
        ({"dimension": 0}, "dimension must be at least 1"),
        ({"layers": 0}, "layers must be at least 1"),
        ({"text_latent": -1}, "text_latent and image_latent must be from 0"),
        ({"image_latent": 10**6}, "text_latent and image_latent must be from 0"),
        ({"regularisation": -0.1}, "regularisation must not be negative"),
        ({"trainable_codes": 1}, "trainable_codes must be true or false"),
        ({"batch": 0}, "batch must be at least 1 and at most 1,048,576"),
        ({"text_pooling": "layers"}, "mmgcn reads one vector per text"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_with_a_sentence(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        configuration(**changes)


def test_a_modality_without_features_is_named() -> None:
    data = training_data()
    with pytest.raises(ValueError, match="mmgcn needs image features of all 6 items"):
        MMGCN(configuration(), TrainingData(ITEMS, data.histories, {"text": data.features["text"]}))


@pytest.mark.parametrize(
    ("name", "dataset", "expected"),
    [
        ("mmgcn-paper", "beauty", (0.1, 1e-3)),
        ("mmgcn-paper", "clothing", (0.0, 1e-4)),
        ("mmgcn-paper", "sports", (0.01, 5e-4)),
        ("mmgcn-paper", "toys", (1e-5, 1e-3)),
        ("mmgcn-mmrec", "clothing", (0.0, 1e-4)),
    ],
)
def test_the_papers_configurations_have_its_weights_and_rates(
    name: str, dataset: str, expected: tuple[float, float]
) -> None:
    settings = load(CONFIGS / f"{name}.toml", (), dataset)
    assert isinstance(settings, MMGCN.config_type)
    assert (settings.training.regularisation, settings.training.learning_rate) == expected


@pytest.mark.parametrize(
    ("name", "text", "trainable"),
    [("mmgcn-mmrec", 0, False), ("mmgcn-paper", 0, True), ("mmgcn", 256, True)],
)
def test_each_preset_is_the_reading_that_its_name_says(name: str, text: int, trainable: bool) -> None:
    settings = load(CONFIGS / f"{name}.toml")
    assert isinstance(settings, MMGCN.config_type)
    assert (settings.network.text_latent, settings.network.trainable_codes) == (text, trainable)
    assert settings.network.image_latent == 256
    assert (settings.network.layers, settings.network.dimension, settings.training.batch) == (3, 64, 2048)
