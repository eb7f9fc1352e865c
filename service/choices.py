"""What the names in a query mean: which backbone, which provider and which model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from service.candidates.base import CandidateModel
from service.errors import InvalidRequestError
from service.schemas import RecommendQuery
from service.strategies import STRATEGIES


@dataclass(frozen=True)
class Choices:
    """What can be chosen, and what is taken when a request does not choose.

    Attributes:
        backbones: name -> model.
        backbone: the raw backbone used unless the request names one.
        lvlms: configured provider -> its models, the first being its default.
        provider: the default provider.
        lvlm: the default provider's default model.
        alternatives: providers and models that answer when the default one cannot.
    """

    backbones: Mapping[str, CandidateModel]
    backbone: str
    lvlms: Mapping[str, Sequence[str]]
    provider: str
    lvlm: str
    alternatives: tuple[tuple[str, str], ...] = ()

    def backbone_for(self, query: RecommendQuery) -> CandidateModel:
        """The backbone that a request asks for, by name or through its strategy.

        Raises:
            InvalidRequestError: the bundle has no such backbone.
        """
        strategy = STRATEGIES[query.strategy]
        if query.backbone is not None:
            model = self.backbones.get(query.backbone)
            if model is None:
                raise InvalidRequestError(
                    f"no backbone {query.backbone[:80]!r} in this bundle; it has {', '.join(self.backbones)}"
                )
            if strategy.backbone_view == "enhanced" and model.manifest.text_view != "enhanced":
                raise InvalidRequestError(
                    f"{strategy.name} answers from an enhanced backbone and {query.backbone!r} is raw"
                )
            return model
        if strategy.backbone_view == "raw":
            return self.backbones[self.backbone]
        for model in self.backbones.values():
            if model.manifest.text_view == "enhanced":
                return model
        raise InvalidRequestError(
            f"{strategy.name} answers from an enhanced backbone and this bundle has none: caption the images "
            "with `python -m service enhance`, train with `--text-view enhanced` and export into this bundle"
        )

    def lvlm_for(self, query: RecommendQuery) -> tuple[str, str]:
        """The provider and model that a request asks for.

        Raises:
            InvalidRequestError: not a configured one.
        """
        provider = query.provider if query.provider is not None else self.provider
        models = self.lvlms.get(provider)
        if models is None:
            raise InvalidRequestError(
                f"no provider {provider[:80]!r}; configured are {', '.join(self.lvlms)}"
            )
        if query.model is None:
            return provider, self.lvlm if provider == self.provider else models[0]
        if query.model not in models:
            raise InvalidRequestError(
                f"no model {query.model[:80]!r} at {provider}; configured are {', '.join(models)}"
            )
        return provider, query.model

    def alternatives_for(self, query: RecommendQuery) -> tuple[tuple[str, str], ...]:
        """Who may answer instead; nobody for a request that names whom it wants to hear."""
        if query.provider is not None or query.model is not None:
            return ()
        return tuple(pair for pair in self.alternatives if pair != (self.provider, self.lvlm))
