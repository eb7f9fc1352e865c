"""Which LVLM answers a request: the provider and model that it names, else the configured ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from service.errors import InvalidRequestError


@dataclass(frozen=True)
class LvlmChoices:
    """What can be chosen, and what is taken when a request does not choose.

    Attributes:
        models: models by configured provider; the first is the provider's default.
        provider: default provider.
        model: the default provider's default model.
        alternatives: providers and models that answer when the default one cannot, in this order.
    """

    models: Mapping[str, Sequence[str]]
    provider: str
    model: str
    alternatives: tuple[tuple[str, str], ...] = ()

    def choose(self, provider: str | None, model: str | None) -> tuple[str, str]:
        """Returns the provider and model that a request asks for; None asks for the default.

        Raises:
            InvalidRequestError: not a configured one.
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
        """Returns who may answer instead: no other for a request that names a provider or a model."""
        if provider is not None or model is not None:
            return ()
        return tuple(pair for pair in self.alternatives if pair != (self.provider, self.model))
