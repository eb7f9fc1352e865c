"""The price table turns tokens into US dollars. A model that is not in it can be called, but has no price."""

from __future__ import annotations

import datetime
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from service.lvlm.cost.tokens import UNKNOWN_FAMILY, ImageRule, image_rule
from service.lvlm.providers.base import ImageDetail, Usage

TABLE = Path(__file__).with_name("prices.toml")
"""File of the table that the service brings along."""

MILLION = 1_000_000
"""Tokens that a price in the table is for."""


@dataclass(frozen=True, slots=True)
class ModelPrice:
    """One model's prices.

    Attributes:
        input: US dollars per million tokens of input.
        cached_input: US dollars per million tokens that the vendor had in its cache.
        cache_write: US dollars per million tokens that the vendor put into its cache.
        output: US dollars per million tokens of output.
        images: rule for the tokens of a picture.
        deprecated_after: the vendor's last day for the model; None where none is announced.
    """

    input: float
    cached_input: float
    cache_write: float
    output: float
    images: ImageRule
    deprecated_after: datetime.date | None

    def cost(self, usage: Usage) -> float:
        """Returns the US dollars for these tokens; cached and cache-writing tokens are part of the input."""
        # Input that was neither read from the vendor's cache nor written to it.
        plain = max(0, usage.input_tokens - usage.cached_input_tokens - usage.cache_write_tokens)
        return (
            plain * self.input
            + usage.cached_input_tokens * self.cached_input
            + usage.cache_write_tokens * self.cache_write
            + usage.output_tokens * self.output
        ) / MILLION


class Prices:
    """The price table. A name like ``gpt-4o@anything`` is a deployment of ``gpt-4o`` and has its prices.

    Args:
        models: prices by model name, aliases included.
        as_of: day on which the prices were read.
        batch_share: share of the prices that calls in a batch cost, from 0 to 1.

    Attributes:
        as_of: day on which the prices were read.
        batch_share: share of the prices that calls in a batch cost, from 0 to 1.
    """

    def __init__(
        self, models: Mapping[str, ModelPrice], as_of: datetime.date, *, batch_share: float = 1.0
    ) -> None:
        self._models = dict(models)
        self.as_of = as_of
        self.batch_share = batch_share

    @classmethod
    def read(cls, path: Path = TABLE) -> Prices:
        """Reads a table.

        Raises:
            ValueError: the table is damaged; the message names the file.
        """
        try:
            table = tomllib.loads(path.read_text(encoding="utf-8"))
            rules = {name: image_rule(record) for name, record in table["images"].items()}
            models = {}
            for name, record in table["models"].items():
                model = _model(record, rules)
                # Aliases share the object, by which ``models`` recognises them.
                models.update(dict.fromkeys([name, *record.get("aliases", ())], model))
            return cls(models, table["as_of"], batch_share=table["batch_share"])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"the price table {path} is damaged: {error!r}") from error

    @property
    def models(self) -> tuple[str, ...]:
        """Names of all models with a price, in the table's order, without aliases."""
        names: dict[int, str] = {}
        for name, model in self._models.items():
            names.setdefault(id(model), name)
        return tuple(names.values())

    def cost(self, model: str, usage: Usage) -> float | None:
        """Returns the US dollars for tokens of a model; None for a model without a price."""
        known = self._known(model)
        return known.cost(usage) if known else None

    def images(self, model: str) -> ImageRule:
        """Returns the model's rule for the tokens of pictures; a common rule for a model without a price."""
        known = self._known(model)
        return known.images if known else UNKNOWN_FAMILY

    def image_detail(self, model: str) -> ImageDetail:
        """Returns the detail to ask for, so that a picture is billed as the rule of ``images`` assumes."""
        return self.images(model).detail

    def warning(self, model: str, today: datetime.date, *, refused: bool = False) -> str | None:
        """Returns a warning for a model that has no price, or whose last day has passed; None for others.

        Args:
            model: the provider's name for the model.
            today: date of today.
            refused: whether calls of a model without a price are refused.
        """
        known = self._known(model)
        if known is None:
            if refused:
                consequence = "it is not called while a budget is set (MSR_UNPRICED_CALLS=allow calls it)"
            else:
                consequence = "its cost is not counted"
            return f"no price is known for the model {model}: {consequence}"
        if known.deprecated_after and today > known.deprecated_after:
            return f"the vendor announced {known.deprecated_after} as the last day of the model {model}"
        return None

    def _known(self, model: str) -> ModelPrice | None:
        return self._models.get(model) or self._models.get(model.partition("@")[0])


def _model(record: Mapping[str, Any], rules: Mapping[str, ImageRule]) -> ModelPrice:
    return ModelPrice(
        input=record["input"],
        # A vendor without a cache's price bills such tokens like other input.
        cached_input=record.get("cached_input", record["input"]),
        cache_write=record.get("cache_write", record["input"]),
        output=record["output"],
        images=rules[record["images"]],
        deprecated_after=record.get("deprecated_after"),
    )
