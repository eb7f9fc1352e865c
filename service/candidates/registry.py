"""Which class serves a backbone, and which families every bundle has."""

from __future__ import annotations

from collections.abc import Callable

from service.bundle import Backbone, Catalogue
from service.candidates.base import CandidateModel
from service.candidates.count import Pop, Random
from service.candidates.graph import GraphModel
from service.candidates.sequence import SequenceModel

COUNTING: dict[str, Callable[[Catalogue], CandidateModel]] = {"pop": Pop, "random": Random}
"""Families without a run, by the name in a request; a bundle's own backbone of such a name goes first."""


def open_backbone(backbone: Backbone, threads: int = 1) -> CandidateModel:
    """The candidate model of a trained backbone; what files it has says which kind it is.

    Args:
        backbone: from an open bundle.
        threads: of ONNX Runtime per call.
    """
    if backbone.encoder is not None:
        return SequenceModel(backbone, threads)
    return GraphModel(backbone)


def open_counting(catalogue: Catalogue) -> dict[str, CandidateModel]:
    """The candidate models that every catalogue has without training, by name."""
    return {name: family(catalogue) for name, family in COUNTING.items()}
