"""Holds what a request reads, the bundle and its candidate models, as one immutable value swapped whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from service.candidates.base import CandidateModel
from service.catalogue.bundle import Bundle, Catalogue
from service.catalogue.item_search import ItemSearch
from service.errors import InvalidRequestError
from service.strategies import Strategy


@dataclass(frozen=True)
class Generation:
    """One state of the catalogue with the models that rank it.

    Item rows may differ from one generation to the next. So a request reads the generation that it began
    with to its end, and nothing that outlives a request holds a part of one.

    Attributes:
        bundle: catalogue and backbones as they lie on disk.
        models: candidate model by name.
        backbone: name of the backbone that answers unless a request names one.
        enhanced: name of the one that answers a strategy of enhanced backbones; None where there is none.
        search: search of the catalogue's names.
    """

    bundle: Bundle
    models: Mapping[str, CandidateModel]
    backbone: str
    enhanced: str | None
    search: ItemSearch

    @property
    def catalogue(self) -> Catalogue:
        """Items, stored histories and captions."""
        return self.bundle.catalogue

    def model_for(self, strategy: Strategy, name: str | None) -> CandidateModel:
        """Returns the candidate model that a request asks for, by name or through its strategy.

        Raises:
            InvalidRequestError: there is no such backbone, or it does not fit the strategy.
        """
        model = self.default_for(strategy) if name is None else self._named(strategy, name)
        if model is None:
            raise InvalidRequestError(
                f"{strategy.name} answers from an enhanced backbone and this bundle has none: caption the "
                "images with `python -m service enhance`, train with `--text-view enhanced` and export into "
                "this bundle"
            )
        return model

    def default_for(self, strategy: Strategy) -> CandidateModel | None:
        """Returns the candidate model that answers where a request names no backbone.

        Returns:
            The default backbone; for a strategy of enhanced backbones the default one of these, None where
            the bundle has none.
        """
        name = self.backbone if strategy.backbone_view == "raw" else self.enhanced
        return None if name is None else self.models[name]

    def _named(self, strategy: Strategy, name: str) -> CandidateModel:
        model = self.models.get(name)
        if model is None:
            raise InvalidRequestError(
                f"no backbone {name[:80]!r} in this bundle; it has {', '.join(self.models)}"
            )
        if strategy.backbone_view == "enhanced" and model.manifest.text_view != "enhanced":
            raise InvalidRequestError(
                f"{strategy.name} answers from an enhanced backbone and {name!r} is raw: name an enhanced "
                "one or leave `backbone` out"
            )
        return model


class CurrentGeneration:
    """Holds the generation that new requests begin with, and lets it be swapped."""

    def __init__(self, generation: Generation) -> None:
        self._generation = generation

    def get(self) -> Generation:
        """Returns the generation; a request asks once, when it begins."""
        return self._generation

    def swap(self, generation: Generation) -> None:
        """Replaces the generation; requests under way go on with theirs."""
        self._generation = generation
