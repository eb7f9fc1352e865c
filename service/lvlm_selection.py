"""Chooses the LVLM that answers a request: the provider and model that it names, else the default ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from service.errors import InvalidRequestError


@dataclass(frozen=True)
class LvlmChoices:
    """The configured LVLMs, and the one that answers a request which names none.

    Attributes:
        models: models by configured provider; the first is the provider's default.
        provider: default provider.
        model: default model of the default provider.
        alternatives: pairs of provider and model that answer when the default one cannot, in this order.
    """

    models: Mapping[str, Sequence[str]]
    provider: str
    model: str
    alternatives: tuple[tuple[str, str], ...] = ()

    def choose(self, provider: str | None, model: str | None) -> tuple[str, str]:
        """Returns the provider and model that a request asks for; None asks for the default.

        Raises:
            InvalidRequestError: the provider or the model is not configured.
        """
        provider = provider if provider is not None else self.provider
        models = self.models.get(provider)
        if models is None:
            raise InvalidRequestError(
                f"no provider {provider[:80]!r}; configured are {', '.join(self.models)}"
            )
        if model is None:
            return provider, self.model if provider == self.provider else models[0]
        if model not in models:
            raise InvalidRequestError(
                f"no model {model[:80]!r} at {provider}; configured are {', '.join(models)}"
            )
        return provider, model

    def alternatives_for(self, provider: str | None, model: str | None) -> tuple[tuple[str, str], ...]:
        """Returns the LVLMs that may answer instead: none for a request that names a provider or a model."""
        if provider is not None or model is not None:
            return ()
        return tuple(pair for pair in self.alternatives if pair != (self.provider, self.model))
