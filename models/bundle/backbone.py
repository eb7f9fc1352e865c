"""Exports a finished run into ``backbones/<name>`` of a bundle, which the service loads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from models.atomic import new_folder
from models.bundle.catalogue import read_catalogue, read_manifest
from models.bundle.onnx_export import ExportError, check_encoder, check_vectors, export_encoder
from models.contracts import (
    BACKBONES,
    ENCODER,
    ITEM_VECTORS,
    MANIFEST,
    USER_VECTORS,
    BackboneManifest,
    sha256_of,
)
from models.contracts.names import is_backbone_name
from models.data.dataset import Dataset
from models.evaluation import leave_one_out
from models.networks.base import SequenceEncoder, SequenceNetwork
from models.networks.registry import FAMILIES
from models.training.fingerprint import fingerprint
from models.training.run import Run, RunError


def write_backbone(run: Run, bundle: Path, name: str | None = None) -> BackboneManifest:
    """Exports a finished run into a bundle that has the run's catalogue.

    Args:
        run: folder of the finished training.
        bundle: folder of the bundle; ``catalogue/`` must be there.
        name: name of the backbone; by default that of the configuration.

    Returns:
        The manifest that was written.

    Raises:
        RunError: the run is not finished, or was trained on other data than the bundle's.
        BundleError: the bundle has no usable catalogue.
        ExportError: ONNX Runtime and torch disagree, or a vector is not a number; nothing was changed.
    """
    name, result = require_exportable(run, name)
    dataset = read_catalogue(bundle)
    require_same_data(run, dataset, bundle)
    config, vectors = run.config(), run.item_vectors(len(dataset.items))
    # Everything is checked inside: a failure leaves the bundle without the new folder, or with the old one.
    with new_folder(bundle / BACKBONES / name) as draft:
        np.save(draft / ITEM_VECTORS, vectors)
        length = _write_user_side(run, dataset, draft)
        manifest = BackboneManifest(
            name=name,
            family=config.family,
            modalities=config.modalities,
            text_view=config.features.text_view,
            captioner=config.features.captioner,
            catalogue_version=read_manifest(bundle).version,
            length=length,
            dimension=vectors.shape[1],
            config=config.to_json(),
            seed=config.training.seed,
            device=result["device"],
            epochs=result["epochs"],
            seconds_per_epoch=result["seconds_per_epoch"],
            metrics=result["metrics"],
            # The version is made of these hashes: two exports of one run are the same version.
            sha256={path.name: sha256_of(path) for path in sorted(draft.iterdir())},
        )
        text = json.dumps(manifest.to_json(), indent=2) + "\n"
        (draft / MANIFEST).write_text(text, encoding="utf-8", newline="\n")
    return manifest


def require_exportable(run: Run, name: str | None) -> tuple[str, dict[str, Any]]:
    """Checks all that can be checked without the data.

    Args:
        run: folder of the training.
        name: name of the backbone; None for that of the configuration.

    Returns:
        The name of the backbone and the run's result.

    Raises:
        RunError: the run is not finished, or a file of it is damaged.
        ExportError: the name cannot be used.
    """
    result, name = run.result(), name or run.origin().model
    if result is None:
        raise RunError(f"{run.folder} is not finished: call the same `python -m models train` again to go on")
    check_name(name)
    run.item_vectors()
    run.best()
    return name, result


def check_name(name: str) -> None:
    """Refuses a name that no backbone can have: it becomes a folder, a query parameter and a metric's label.

    Raises:
        ExportError: the name cannot be used.
    """
    if not is_backbone_name(name):
        raise ExportError(f"the name {name!r} must be made of a-z, 0-9, dot, dash and underscore")


def require_same_data(run: Run, dataset: Dataset, source: Path) -> None:
    """Refuses a run that was trained on other data than those of ``source``.

    Raises:
        RunError: the fingerprints differ.
    """
    if fingerprint(dataset, run.config()) != run.origin().fingerprint:
        raise RunError(
            f"{run.folder} was trained on other items, histories, captions or pictures than {source} holds, "
            "or by an older version: export to another bundle, or train again under another --name"
        )


def load_encoder(run: Run) -> SequenceEncoder:
    """Rebuilds the user encoder with the run's best weights, in evaluation mode on the CPU.

    Raises:
        RunError: no epoch was completed, or the run's family has no encoder.
    """
    config = run.config()
    family = FAMILIES[config.family]
    if not issubclass(family, SequenceNetwork):
        raise RunError(f"{run.folder} is a run of {config.family}, which has no encoder of histories")
    try:
        return family.restore_encoder(config, run.best()).eval()
    except (RuntimeError, KeyError) as error:  # as load_state_dict has it
        raise RunError(
            f"{run.folder} holds the weights of another network: delete it and train again"
        ) from error


def _write_user_side(run: Run, dataset: Dataset, folder: Path) -> int:
    """Writes what makes a user's vector: the encoder of histories, or the vectors of all users.

    Returns:
        L of the encoder; 0 without one.
    """
    vectors = run.item_vectors()
    if issubclass(FAMILIES[run.config().family], SequenceNetwork):
        encoder = load_encoder(run)
        export_encoder(encoder, folder / ENCODER)
        # Histories of the test part are the longest for which there is an item left to predict.
        histories = [example.history for example in leave_one_out(dataset.histories).test]
        check_encoder(folder / ENCODER, encoder, vectors, histories)
        return encoder.length
    user_vectors = run.user_vectors()  # [users, d], in the order of histories.npz
    check_vectors(vectors, user_vectors, len(dataset.users))
    np.save(folder / USER_VECTORS, user_vectors)
    return 0
