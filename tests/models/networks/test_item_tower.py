from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from toy_models import ITEMS, circle, circle_features, config

from models.features import Features
from models.networks.base import TrainingData
from models.networks.item_tower import ItemTower
from models.networks.tower_recommender import TowerRecommender
from models.training.loop import build

TOWERS = [
    (modalities, fusion)
    for size in (1, 2, 3)
    for modalities in itertools.combinations(("id", "text", "image"), size)
    for fusion in ("sum", "concat")
]


def tower(modalities: tuple[str, ...], fusion: str = "sum", **changes: Any) -> ItemTower:
    section = {"modalities": list(modalities), "fusion": fusion, **changes}
    return tower_of(section, circle_features())


def tower_of(section: dict[str, Any], features: dict[str, Features]) -> ItemTower:
    network = build(config(tower=section), circle(), features)
    assert isinstance(network, TowerRecommender)
    return network.tower.eval()


@pytest.mark.parametrize(("modalities", "fusion"), TOWERS)
class TestEveryTower:
    def test_gives_one_finite_vector_of_size_d_per_item(
        self, modalities: tuple[str, ...], fusion: str
    ) -> None:
        vectors = tower(modalities, fusion).all()
        assert vectors.shape == (ITEMS, 16)
        assert vectors.isfinite().all()

    def test_gives_an_item_the_same_vector_in_any_company(
        self, modalities: tuple[str, ...], fusion: str
    ) -> None:
        made = tower(modalities, fusion)
        torch.testing.assert_close(made(torch.tensor([9, 4, 9])), made.all()[[9, 4, 9]])

    def test_reaches_all_its_weights_with_the_gradient(
        self, modalities: tuple[str, ...], fusion: str
    ) -> None:
        made = tower(modalities, fusion)
        made.all().square().sum().backward()
        for name, weight in made.named_parameters():
            assert weight.grad is not None, name
            if not name.endswith("missing"):
                assert weight.grad.abs().sum() > 0, name

    def test_keeps_frozen_features_out_of_the_checkpoint(
        self, modalities: tuple[str, ...], fusion: str
    ) -> None:
        assert not any(
            "features" in key or "present" in key for key in tower(modalities, fusion).state_dict()
        )


@pytest.mark.parametrize(("modalities", "fusion"), [(("text",), "sum"), (("text", "image"), "concat")])
def test_items_without_features_share_one_learned_stand_in(modalities: tuple[str, ...], fusion: str) -> None:
    made = tower(modalities, fusion)
    before = made.all()
    torch.testing.assert_close(before[3], before[17])
    with torch.no_grad():
        for source in made.parts[0].sources:
            source.missing.fill_(3.0)
    after = made.all()
    torch.testing.assert_close(after[3], after[17])
    changed = [row for row in range(ITEMS) if not torch.allclose(after[row], before[row])]
    assert changed == [3, 17]


def test_an_id_distinguishes_items_of_equal_content() -> None:
    features = circle_features()
    features["text"].values[11] = features["text"].values[10]
    for modalities, apart in ((["text"], False), (["id", "text"], True)):
        made = tower_of({"modalities": modalities}, features)
        assert torch.allclose(*made.all()[[10, 11]]) != apart


def test_every_choice_of_the_tower_changes_it() -> None:
    base = tower(("text", "image")).state_dict()
    assert tower(("text", "image"), "concat").state_dict().keys() < base.keys()
    assert tower(("text", "image"), hidden=8).state_dict()["parts.0.projections.0.0.weight"].shape[0] == 8
    noisy = tower(("id", "text"), dropout=0.5).train()
    assert not torch.equal(noisy.all(), noisy.all())


def gelu(x: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    return x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2


@pytest.mark.parametrize(("projection", "layers"), [("linear", 0), ("authors", 0), ("authors", 2)])
def test_projections_of_the_paper_are_those_written_out_in_numpy(projection: str, layers: int) -> None:
    """One linear layer of the concatenation; in the authors' code a GELU, then (d → d, GELU) each time."""
    features = circle_features()
    made = tower(("text", "image"), "concat", projection=projection, layers=layers, start="xavier")
    weights = {
        name.removeprefix("parts.0.projections.0."): value.numpy().astype(float)
        for name, value in made.state_dict().items()
    }
    expected = np.concatenate([features["text"].values, features["image"].values], axis=1)
    expected = expected @ weights["0.weight"].T + weights["0.bias"]
    for layer in range(layers):
        place = f"{2 + 3 * layer + 1}"  # after linear and GELU: dropout, linear, GELU
        expected = gelu(expected) @ weights[f"{place}.weight"].T + weights[f"{place}.bias"]
    if projection == "authors":
        expected = gelu(expected)
    np.testing.assert_allclose(made.all().detach().numpy(), expected, atol=1e-5)
    assert not any(value.any() for name, value in weights.items() if name.endswith("bias"))


def test_a_trained_table_begins_as_the_features_and_is_saved() -> None:
    features = circle_features()["text"]
    frozen, made = (tower(("text",), projection="linear", table=table) for table in ("frozen", "trained"))
    torch.testing.assert_close(made.all(), frozen.all())
    table = made.state_dict()["parts.0.sources.0.table"]
    np.testing.assert_array_equal(table.numpy(), features.values)
    made.all()[7].sum().backward()
    gradient = dict(made.named_parameters())["parts.0.sources.0.table"].grad
    assert gradient is not None
    assert gradient.abs().sum(dim=1).nonzero().flatten().tolist() == [7]


def test_items_without_features_have_a_row_of_their_own_in_a_trained_table() -> None:
    made = tower(("text",), table="trained")
    before = made.all()
    torch.testing.assert_close(before[3], before[17])
    with torch.no_grad():
        made.parts[0].sources[0].table[3] += 1.0
    assert not torch.allclose(made.all()[3], before[3])
    torch.testing.assert_close(made.all()[17], before[17])


def test_a_wide_table_of_ids_is_projected_with_the_features() -> None:
    made = tower(("id", "text"), "concat", id_width=24, projection="linear")
    table = made.state_dict()["parts.0.sources.0.weight"]
    assert table.shape == (ITEMS, 24)
    assert table.std() == pytest.approx(1.0, rel=0.1)
    assert made.state_dict()["parts.0.projections.0.0.weight"].shape == (16, 24 + 16)


@pytest.mark.parametrize(
    "changes",
    [
        {"projection": "linear"},
        {"projection": "authors"},
        {"projection": "authors", "layers": 1},
        {"table": "trained"},
        {"id_width": 24},
        {"start": "xavier"},
    ],
)
def test_every_setting_of_the_papers_form_changes_the_tower(changes: dict[str, Any]) -> None:
    def shapes_and_sum(made: ItemTower) -> tuple[list[tuple[str, torch.Size]], float]:
        return [(name, value.shape) for name, value in made.state_dict().items()], made.all().sum().item()

    assert shapes_and_sum(tower(("id", "text"), **changes)) != shapes_and_sum(tower(("id", "text")))


def test_features_that_are_missing_or_of_another_catalogue_are_refused() -> None:
    features = circle_features()
    tensors = {"text": (torch.from_numpy(features["text"].values), torch.ones(ITEMS, dtype=torch.bool))}
    for modality, items in (("image", ITEMS), ("text", ITEMS + 1)):
        with pytest.raises(ValueError, match=f"morec needs {modality} features of all {items} items"):
            TowerRecommender(
                config(tower={"modalities": [modality]}), TrainingData(items, circle().histories, tensors)
            )
