"""The contract of model families: each is trained, exported and served alike, with the same scores."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from followers_family import Followers
from graph_family import TinyGraph
from service_process import start_service
from small_data import save_picture, write_amazon_plus

from models.__main__ import main
from models.bundle.catalogue import read_catalogue
from models.data.dataset import Dataset
from models.evaluation import (
    DrawnCandidates,
    candidate_matrix,
    leave_one_out,
    rank_of_target,
    sampled_metrics,
)
from models.features import Features, item_features
from models.features.config import FeatureConfig
from models.networks.base import GraphNetwork, LearningNetwork, Network
from models.networks.registry import FAMILIES
from models.training.loop import build
from models.training.run import Run
from models.training.scoring import GraphScorer, scorer_for
from service.candidates.base import CandidateModel
from service.candidates.registry import open_backbone
from service.catalogue.bundle import Bundle, open_bundle

ITEMS = 40
NEXT_ITEM = (
    "[network]\ndimension = 8\nlength = 5\nblocks = 1\nheads = 2\ndropout = 0.1\n"
    "[training]\nseed = 1\nepochs = 2\npatience = 2\npositions = 64\nlearning_rate = 0.01\n"
    "weight_decay = 0.0\nnegatives = 10\nlog_q = false\ntemperature = 1.0\n"
    '[tower]\nfusion = "sum"\nhidden = 8\ndropout = 0.0\nmodalities = '
)
PAPER = (
    "[network]\ndimension = 8\nlength = 5\nblocks = 1\nheads = 2\ndropout = 0.1\ninput_norm = true\n"
    'norm = "post"\nfeed_forward = 32\nattention_bias = false\nnorm_eps = 1e-6\nstart = "xavier"\n'
    '[training]\nseed = 1\nepochs = 2\npatience = 2\nsequences = 16\nwindows = "last"\n'
    'learning_rate = 0.01\nweight_decay = 0.1\nbeta2 = 0.999\nloss = "bce"\nnegatives = 1\n'
    "log_q = false\ntemperature = 1.0\n"
    '[tower]\nfusion = "concat"\nprojection = "linear"\nstart = "xavier"\nhidden = 1\ndropout = 0.0\n'
    "modalities = "
)
PAIRS = "seed = 1\nepochs = 3\npatience = 3\nlearning_rate = 0.01\nweight_decay = 0.0\nbatch = 32\n"
CONFIGURATIONS = {
    "sasrec": f'{NEXT_ITEM}["id"]\n',
    "morec": f'{PAPER}["image"]\n',
    "freedom": '[network]\ndimension = 8\nmodalities = ["image"]\nneighbours = 4\nimage_weight = 0.1\n'
    "item_layers = 1\nlayers = 2\n"
    f"[training]\n{PAIRS}pruning = 0.5\ncontent_weight = 0.001\n",
    "bm3": '[network]\ndimension = 8\nmodalities = ["image"]\nlayers = 1\ndropout = 0.3\n'
    f"[training]\n{PAIRS}content_weight = 2.0\nregularisation = 0.01\n",
    "iisan": "[network]\ndimension = 8\nlength = 5\nblocks = 1\nheads = 2\ndropout = 0.1\n"
    '[adapters]\nhidden = 4\npictures = "single"\n[features]\ntext_pooling = "layers"\n'
    "[training]\nseed = 1\nepochs = 2\npatience = 2\nsequences = 8\nlearning_rate = 0.01\n"
    "adapter_rate = 0.01\ntext_rate = 0.01\nimage_rate = 0.01\nweight_decay = 0.0\n",
    "mmgcn": '[network]\nmodalities = ["image"]\ndimension = 8\nlayers = 2\ntext_latent = 0\n'
    "image_latent = 8\ntrainable_codes = true\n"
    "[training]\nseed = 1\nepochs = 3\npatience = 3\nlearning_rate = 0.01\nweight_decay = 0.0\nbatch = 32\n"
    "regularisation = 0.01\n",
    "followers": "[training]\nseed = 1\n",
    "graph": "[network]\ndimension = 8\nlayers = 2\n[training]\nseed = 1\nepochs = 3\npatience = 3\n"
    "learning_rate = 0.01\nweight_decay = 0.0\nbatch = 32\n",
}
"""The smallest configuration of every family of the registry, and of two that are not in it.

SASRec has this project's form and MoRec the paper's; both families take either.
"""


def features_with_layers(
    dataset: Dataset, config: FeatureConfig, modalities: Sequence[str], cache: Path
) -> dict[str, Features]:
    """Makes features as training does; hidden states of titles from their number, without an encoder."""
    if config.text_pooling != "layers":
        return item_features(dataset, config, modalities, cache)
    features = item_features(dataset, config, [each for each in modalities if each != "text"], cache)
    angles = np.array([float(str(item.title).split()[-1]) for item in dataset.items]) * 2 * np.pi / ITEMS
    state = np.stack([np.cos(angles), np.sin(angles), np.cos(3 * angles), np.sin(3 * angles)], axis=1)
    states = np.stack([0 * state, state, 2 * state], axis=1).astype(np.float32)  # [items, 3, 4]
    return {**features, "text": Features(states, np.ones(len(states), dtype=bool))}


@dataclass(frozen=True)
class Served:
    """A family's run, the network with the run's weights, and the model that is served."""

    family: str
    run: Run
    network: Network
    bundle: Bundle
    model: CandidateModel
    shown: str


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty numbered, coloured items, and sixty users who step through them."""
    folder = tmp_path_factory.mktemp("data") / "steps"
    histories = [[str((5 * user + step) % ITEMS + 1) for step in range(4 + user % 7)] for user in range(60)]
    side = {str(i): {"title": f"Thing {i}", "image": {"image_path": f"{i}.png"}} for i in range(1, ITEMS + 1)}
    for i in range(1, ITEMS + 1):
        save_picture(folder / "photos" / f"{i}.png", (6 * i, 100, 255 - 6 * i))
    return write_amazon_plus(folder, histories, side)


@pytest.fixture(scope="module")
def registered() -> Iterator[None]:
    """One line of the registry for each family of the tests, and texts whose states need no large encoder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("models.commands.train.item_features", features_with_layers)
        patch.setitem(FAMILIES, "followers", Followers)
        patch.setitem(FAMILIES, "graph", TinyGraph)
        yield


@pytest.fixture(scope="module")
def exported(
    registered: None, data: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, str]]:
    """A folder with the run of every family and a bundle of them all; what was printed, by family."""
    folder, shown = tmp_path_factory.mktemp("families"), {}
    for family, settings in CONFIGURATIONS.items():
        toml, run = folder / f"{family}.toml", folder / "runs" / f"steps-{family}"
        toml.write_text(f'family = "{family}"\n{settings}')
        with pytest.MonkeyPatch.context() as patch:
            printed: list[Any] = []
            patch.setattr("builtins.print", lambda *words, to=printed, **_: to.extend(words))
            train = ["train", "--data", str(data), "--config", str(toml), "--runs", str(run.parent)]
            assert main(train) == 0
            assert main(["export", "--run", str(run), "--bundle", str(folder / "bundle")]) == 0
        shown[family] = "\n".join(printed)
    return folder, shown


@pytest.fixture(scope="module", params=CONFIGURATIONS)
def served(request: pytest.FixtureRequest, exported: tuple[Path, dict[str, str]]) -> Served:
    family, (folder, shown) = request.param, exported
    run, opened = Run(folder / "runs" / f"steps-{family}"), open_bundle(folder / "bundle")
    network = restored(run, folder / "bundle")
    return Served(family, run, network, opened, open_backbone(opened.backbones[family]), shown[family])


@pytest.fixture(scope="module")
def client(exported: tuple[Path, dict[str, str]]) -> Iterator[httpx.Client]:
    """A client of a service, in a process of its own, on the bundle of all families."""
    folder, _ = exported
    with (
        start_service(folder / "bundle") as service,
        httpx.Client(base_url=service.url, timeout=30) as client,
    ):
        yield client


def restored(run: Run, bundle: Path) -> Network:
    """The network of a run, rebuilt from its data and its weights."""
    config, dataset = run.config(), read_catalogue(bundle)
    cache = run.folder.parent / "features"
    features = features_with_layers(dataset, config.features, config.modalities, cache)
    network = build(config, dataset, features)
    network.load_state_dict(run.best())
    return network


def test_the_registry_has_no_family_that_this_suite_leaves_out(served: Served) -> None:
    assert set(FAMILIES) == set(CONFIGURATIONS)
    assert served.family in FAMILIES


def test_the_backbone_says_which_family_it_is(served: Served) -> None:
    manifest = served.model.manifest
    assert manifest.family == manifest.config["family"] == served.family
    assert manifest.dimension == served.run.item_vectors().shape[1]
    assert manifest.metrics == json.loads((served.run.folder / "result.json").read_text())["metrics"]
    assert f"backbone   {served.family}, version {manifest.version}" in served.shown


def test_a_backbone_has_an_encoder_or_the_vectors_of_all_users(served: Served) -> None:
    backbone = served.bundle.backbones[served.family]
    assert (backbone.encoder is None) == (backbone.user_vectors is not None)
    assert ("ONNX agrees with torch" in served.shown) == (backbone.encoder is not None)
    if backbone.user_vectors is not None:
        assert backbone.user_vectors.shape == (60, backbone.manifest.dimension)
        assert not backbone.user_vectors.flags.writeable  # worker processes may share one copy


def test_the_service_scores_what_the_trained_network_scores(served: Served) -> None:
    histories = served.bundle.catalogue.histories
    trained = scorer_for(served.network)
    for user_id, user in list(histories.users.items())[::7]:
        rows = np.asarray(histories.get(user_id))
        (vector,) = trained.user_vectors([user], [rows])
        scores = served.model.score(user, rows.tolist(), range(ITEMS))
        np.testing.assert_allclose(scores, trained.item_vectors @ vector, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("user", [0, 16, None])
def test_the_answer_over_http_is_what_the_trained_network_ranks_first(
    served: Served, client: httpx.Client, user: int | None
) -> None:
    catalogue, known = served.bundle.catalogue, [2, 3, 4]
    history = [catalogue.items[row].item_id for row in known]
    user_id = "a stranger" if user is None else catalogue.histories.user_ids[user]
    body = {"user_id": user_id, "history": [*history, "an item of another shop"], "k": 30}
    answer = client.post(f"/recommend?backbone={served.family}", json=body).json()
    trained = scorer_for(served.network)
    if user is None and isinstance(trained, GraphScorer):
        vector = trained.item_vectors[known].mean(axis=0)  # of a user whom the graph does not know
    else:
        (vector,) = trained.user_vectors([user or 0], [np.asarray(known)])
    scores = trained.item_vectors @ vector
    scores[known] = -np.inf
    best = np.argsort(-scores, kind="stable")[:30]
    found = [catalogue.rows[item["item_id"]] for item in answer["items"]]
    np.testing.assert_allclose(
        [item["score"] for item in answer["items"]], scores[best], rtol=1e-4, atol=1e-5
    )
    np.testing.assert_allclose(scores[found], scores[best], rtol=1e-4, atol=1e-5)  # the same, up to ties
    assert any("an item of another shop" in warning for warning in answer["warnings"])
    assert answer["backbone"]["family"] == served.family


def test_the_bundle_alone_gives_the_metrics_of_the_run(served: Served) -> None:
    dataset = read_catalogue(served.bundle.catalogue.folder.parent)
    test = leave_one_out(dataset.histories).test
    candidates = candidate_matrix(test, DrawnCandidates(dataset.histories, ITEMS))
    scores = [
        served.model.score(example.user, example.history.tolist(), some.tolist())
        for example, some in zip(test, candidates, strict=True)
    ]
    quoted = served.model.manifest.metrics["test"]
    assert sampled_metrics(rank_of_target(scores)) == {m: quoted[m] for m in ("H@1", "H@5", "N@5")}


def test_an_unknown_user_with_a_history_gets_items_and_a_warning_where_one_is_due(served: Served) -> None:
    rows, scores = served.model.top(None, [3, 4, 5], k=5, exclude=[3, 4, 5])
    assert len(set(rows) - {3, 4, 5}) == 5
    assert np.isfinite(scores).all()
    assert bool(served.model.warnings(None)) == isinstance(served.network, GraphNetwork)


def test_training_again_prints_the_same_and_changes_nothing(
    served: Served, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path.name: path.read_bytes() for path in served.run.folder.iterdir()}
    toml = served.run.folder.parents[1] / f"{served.family}.toml"
    runs = str(served.run.folder.parent)
    assert main(["train", "--data", str(data), "--config", str(toml), "--runs", runs]) == 0
    assert capsys.readouterr().out.strip() in served.shown
    assert {path.name: path.read_bytes() for path in served.run.folder.iterdir()} == before


def test_a_run_that_stops_after_an_epoch_goes_on_to_the_same_bits(
    served: Served, data: Path, tmp_path: Path
) -> None:
    toml = served.run.folder.parents[1] / f"{served.family}.toml"
    train = ["train", "--data", str(data), "--config", str(toml), "--runs", str(tmp_path)]
    if isinstance(served.network, LearningNetwork):
        assert main([*train, "--set", "training.epochs=1"]) == 0
    assert main(train) == 0
    again = Run(tmp_path / served.run.folder.name)
    assert again.item_vectors().tobytes() == served.run.item_vectors().tobytes()
    if isinstance(served.network, GraphNetwork):
        assert again.user_vectors().tobytes() == served.run.user_vectors().tobytes()
    assert again.result()["metrics"] == served.run.result()["metrics"]  # type: ignore[index]


def test_a_family_that_learns_has_less_loss_after_its_last_epoch(served: Served) -> None:
    log = served.run.folder / "log.jsonl"
    assert log.exists() == isinstance(served.network, LearningNetwork)
    if log.exists():
        first, *_, last = (json.loads(line)["loss"] for line in log.read_text().splitlines())
        assert last < first


def test_a_family_that_learns_has_nearly_the_same_loss_in_bf16(
    served: Served, data: Path, tmp_path: Path
) -> None:
    if not isinstance(served.network, LearningNetwork):
        return
    toml = served.run.folder.parents[1] / f"{served.family}.toml"
    train = ["train", "--data", str(data), "--config", str(toml), "--runs", str(tmp_path)]
    assert main([*train, "--precision", "bf16", "--set", "training.epochs=1"]) == 0
    logs = [(runs / served.run.folder.name / "log.jsonl") for runs in (served.run.folder.parent, tmp_path)]
    exact, coarse = (json.loads(log.read_text().splitlines()[0])["loss"] for log in logs)
    assert coarse == pytest.approx(exact, rel=0.02)


@pytest.mark.parametrize("served", ["followers"], indirect=True)
def test_what_follows_most_often_is_recommended_by_the_family_that_counts_it(served: Served) -> None:
    rows, scores = served.model.top(None, [30, 7], k=1, exclude=[])
    assert rows == [8]  # users step from item to item
    assert scores[0] == served.network.lookup.counts[7, 8] > 0  # type: ignore[union-attr, index]
    assert served.run.result()["epochs"] == 0  # type: ignore[index]
