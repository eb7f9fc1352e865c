"""Writes ``backbones/<name>`` of a bundle: a run becomes something that the service can load."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import torch

from models.atomic import new_folder
from models.catalogue import read_catalogue, read_manifest
from models.contracts import (
    BACKBONES,
    ENCODER,
    ITEM_VECTORS,
    MANIFEST,
    BackboneManifest,
    sha256_of,
)
from models.data.dataset import Dataset
from models.evaluation import leave_one_out
from models.export import ExportError, check_encoder, export_encoder
from models.fingerprint import fingerprint
from models.networks.item_tower import ItemTower, TowerConfig
from models.networks.sasrec import SASRec
from models.networks.tower_recommender import Recommender
from models.run import Run, RunError


def write_backbone(run: Run, bundle: Path, name: str | None = None) -> BackboneManifest:
    """Export a finished run into a bundle that has the run's catalogue.

    Args:
        run: the run.
        bundle: its folder; ``catalogue/`` must be there.
        name: of the backbone; by default the model's name.

    Returns:
        The manifest that was written.

    Raises:
        RunError: the run is not finished, or was trained on other data than the bundle's.
        BundleError: the bundle has no usable catalogue.
        ExportError: ONNX Runtime and torch disagree; nothing was changed.
    """
    origin, result = run.origin(), run.result()
    name = name or origin.model
    if result is None:
        raise RunError(f"{run.folder} is not finished: call the same `python -m models train` again to go on")
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,63}", name):
        raise ExportError(f"the name {name!r} must be made of a-z, 0-9, dot, dash and underscore")
    dataset = read_catalogue(bundle)
    require_same_data(run, dataset, bundle)
    config = run.config()
    network = load_network(run)
    vectors = run.item_vectors()
    with new_folder(bundle / BACKBONES / name) as draft:
        np.save(draft / ITEM_VECTORS, vectors)
        export_encoder(network, draft / ENCODER)
        check_encoder(
            draft / ENCODER, network, vectors, [e.history for e in leave_one_out(dataset.histories).test]
        )
        manifest = BackboneManifest(
            name=name,
            family=config.family,
            modalities=config.tower.modalities,
            text_view=config.features.text_view,
            captioner=config.features.captioner,
            catalogue_version=read_manifest(bundle).version,
            length=config.network.length,
            dimension=config.network.dimension,
            config=config.to_json(),
            seed=config.training.seed,
            device=result["device"],
            epochs=result["epochs"],
            seconds_per_epoch=result["seconds_per_epoch"],
            metrics=result["metrics"],
            sha256={file: sha256_of(draft / file) for file in (ITEM_VECTORS, ENCODER)},
        )
        text = json.dumps(manifest.to_json(), indent=2) + "\n"
        (draft / MANIFEST).write_text(text, encoding="utf-8", newline="\n")
    return manifest


def require_same_data(run: Run, dataset: Dataset, source: Path) -> None:
    """Refuse a run that was trained on other data than those of ``source``.

    Raises:
        RunError: the fingerprints differ.
    """
    if fingerprint(dataset, run.config()) != run.origin().fingerprint:
        raise RunError(
            f"{run.folder} was trained on other items, histories, captions or pictures than {source} holds, "
            "or by an older version: export to another bundle, or train again under another --name"
        )


def load_recommender(run: Run) -> Recommender:
    """The whole model of a finished run, item vectors as a table, in evaluation mode on the CPU.

    It scores what the bundle scores, and needs no features: the reference for speed and agreement.

    Raises:
        RunError: the run is not finished.
    """
    if run.result() is None:
        raise RunError(f"{run.folder} is not finished: call the same `python -m models train` again to go on")
    vectors = torch.from_numpy(run.item_vectors())
    tower = ItemTower(TowerConfig(("id",), "sum", hidden=1, dropout=0.0), vectors.shape[1], len(vectors), {})
    tower.load_state_dict({"parts.0.table.weight": vectors})
    return Recommender(tower, load_network(run)).eval()


def load_network(run: Run) -> SASRec:
    """The sequence network with the run's best weights, in evaluation mode on the CPU.

    Raises:
        RunError: no epoch was completed.
    """
    network = SASRec(run.config().network)
    prefix = "network."
    weights = run.best(torch.device("cpu")).items()
    network.load_state_dict(
        {key.removeprefix(prefix): value for key, value in weights if key.startswith(prefix)}
    )
    return network.eval()
