"""Opens the service's candidate models on weights at hand, read from files as a bundle holds them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.bundle.onnx_export import export_encoder
from models.contracts import ENCODER, ITEM_VECTORS, BackboneManifest, sha256_of
from models.networks.sasrec import SASRec
from service.candidates.graph import GraphModel
from service.candidates.sequence import SequenceModel
from service.catalogue.bundle import Backbone
from service.catalogue.file_copies import PrivateCopies
from service.catalogue.vectors import read_vectors


def sequence_model(network: SASRec, vectors: NDArray[np.float32], folder: Path) -> SequenceModel:
    """Opens the candidate model of a sequence family, on one thread.

    Args:
        network: encoder of histories.
        vectors: item vectors [items, d].
        folder: folder for the files, which may be removed afterwards.
    """
    export_encoder(network, folder / ENCODER)
    manifest = _manifest("sasrec", network.config.dimension, network.config.length)
    encoder = (folder / ENCODER).read_bytes()
    return SequenceModel(Backbone(manifest, _written_and_read(vectors, folder), encoder), threads=1)


def graph_model(vectors: NDArray[np.float32], user_vectors: NDArray[np.float32], folder: Path) -> GraphModel:
    """Opens the candidate model of a graph family.

    Args:
        vectors: item vectors [items, d].
        user_vectors: vectors of users [users, d].
        folder: folder for the file, which may be removed afterwards.
    """
    manifest = _manifest("bm3", vectors.shape[1], 0)
    items = _written_and_read(vectors, folder)
    return GraphModel(Backbone(manifest, items, None, user_vectors=user_vectors))


def _written_and_read(vectors: NDArray[np.float32], folder: Path) -> NDArray[np.float32]:
    path, (items, dimension) = folder / ITEM_VECTORS, vectors.shape
    np.save(path, vectors)
    return read_vectors(path, sha256_of(path), items, dimension, PrivateCopies())


def _manifest(family: str, dimension: int, length: int) -> BackboneManifest:
    return BackboneManifest(
        name="measured",
        family=family,
        modalities=("id",),
        text_view="raw",
        captioner=None,
        catalogue_version="",
        length=length,
        dimension=dimension,
        config={},
        seed=0,
        device="cpu",
        epochs=0,
        seconds_per_epoch=0.0,
        metrics={},
    )
