"""Picks the class that serves a backbone, and lists the families that every bundle has."""

from __future__ import annotations

from collections.abc import Callable

from service.candidates.base import CandidateModel
from service.candidates.graph import GraphModel
from service.candidates.pop_and_random import Pop, Random
from service.candidates.sequence import SequenceModel
from service.catalogue.bundle import Backbone, Catalogue

COUNTING: dict[str, Callable[[Catalogue], CandidateModel]] = {"pop": Pop, "random": Random}
"""Families that need no training, by the name in a request; a bundle's own backbone of such a name wins."""


def open_backbone(backbone: Backbone, threads: int = 1) -> CandidateModel:
    """Opens a trained backbone: an encoder makes it a sequence family, user vectors a graph family.

    Args:
        backbone: backbone of an open bundle.
        threads: threads of ONNX Runtime per call, at least 1.
    """
    if backbone.encoder is not None:  # opening the bundle made sure that there is exactly one of the two
        return SequenceModel(backbone, threads)
    return GraphModel(backbone)


def open_counting(catalogue: Catalogue) -> dict[str, CandidateModel]:
    """Opens the candidate models that every catalogue has without training, by name."""
    return {name: family(catalogue) for name, family in COUNTING.items()}
