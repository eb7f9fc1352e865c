"""Reads and checks the configuration of a training run.

An unknown key, a wrong type or a value out of its range raises an error whose message names it.
"""

from __future__ import annotations

import logging
import math
import reprlib
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from models.errors import ModelsError
from models.networks.config import Config
from models.networks.registry import FAMILIES, family_of

log = logging.getLogger(__name__)

CONFIGS = Path(__file__).parents[1] / "configs"

LARGEST = 2**31 - 1
"""Largest whole number of a configuration; seeds are multiplied in 64 bits."""


class ConfigError(ModelsError):
    """A configuration has an unknown key, a value of the wrong type or one out of its range."""


def configs() -> list[str]:
    """Lists the configurations that come with the package."""
    return sorted(path.stem for path in CONFIGS.glob("*.toml"))


def path_of(name: str) -> Path:
    """Returns the file of a configuration that comes with the package."""
    return CONFIGS / f"{name}.toml"


def load(path: Path, settings: Sequence[str] = (), dataset: str | None = None) -> Config:
    """Reads a TOML file, then changes single values.

    Tables named ``[datasets.<data set>.<section>]`` hold the values that differ for one data set, as
    published hyperparameters do.

    Args:
        path: TOML file with a family and its sections.
        settings: changes as ``section.key=value``, where the value is TOML or a string without quotes.
        dataset: name of the data set; the values of any other data set are checked and not used.

    Raises:
        ConfigError: the file or a setting cannot be read, or names something that does not exist.
    """
    try:
        record = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"cannot read {path} ({error.strerror}); named ones are {', '.join(configs())}"
        ) from error
    except (ValueError, RecursionError) as error:  # not UTF-8, not TOML, or nested too deeply
        raise ConfigError(f"{path} is not TOML: {error}") from error
    differing = record.pop("datasets", {})
    if not isinstance(differing, dict):
        raise ConfigError(f"{path}: datasets must be tables by the name of a data set")
    chosen = None
    for name in (None, *differing):
        values = _merged(record, differing[name] if name else {}, f"{path}: datasets.{name}")
        for setting in settings:
            _set(values, setting)
        config = from_json(values, str(path) if name is None else f"{path}: datasets.{name}")
        if name in (None, dataset):
            chosen = config
    assert chosen is not None  # the file itself is the first
    if dataset is not None and differing and dataset not in differing:
        log.info(
            "%s has values of its own for %s, and for %s those that stand before them",
            path.name,
            ", ".join(differing),
            dataset,
        )
    return chosen


def from_json(record: Mapping[str, Any], source: str) -> Config:
    """Builds a configuration of the right family from plain values.

    Raises:
        ConfigError: an unknown family, an unknown or missing key, a wrong type, or values that do not fit
            together.
    """
    family = family_of(record)
    if not isinstance(family, str) or family not in FAMILIES:
        raise ConfigError(f"{source}: no family {_quoted(family)}; known are {', '.join(FAMILIES)}")
    config: Config = _build(FAMILIES[family].config_type, {**record, "family": family}, source, "")
    return config


def _merged(record: Mapping[str, Any], changes: object, source: str) -> dict[str, Any]:
    """Returns a copy of a file's sections with the values that one data set changes."""
    values = {
        name: dict(section) if isinstance(section, dict) else section for name, section in record.items()
    }
    if not isinstance(changes, dict) or not all(isinstance(each, dict) for each in changes.values()):
        raise ConfigError(f"{source} must be tables of sections, such as [datasets.sports.training]")
    for name, section in changes.items():
        values[name] = {**values.get(name, {}), **section}
    return values


def _set(record: dict[str, Any], setting: str) -> None:
    key, equals, value = setting.partition("=")
    section, dot, name = key.strip().partition(".")
    if not equals or not dot:
        raise ConfigError(f"--set takes section.key=value, such as training.epochs=3, not {setting!r}")
    try:
        parsed = tomllib.loads(f"value = {value}")["value"]
    except (ValueError, RecursionError):
        parsed = value.strip()  # a word without quotes
    values = record.setdefault(section, {})
    if not isinstance(values, dict):
        raise ConfigError(f"{section} is no section")
    values[name] = parsed
    if (section, name) == ("tower", "modalities") and record.get("family") in ("sasrec", "morec"):
        del record["family"]  # what the tower reads decides which of the two it is


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
    if hint is float and type(value) is int and abs(value) <= LARGEST:
        value = float(value)  # TOML has 1 and 1.0; a bool is refused, though it is an int
    if get_origin(hint) is tuple and isinstance(value, list | tuple):
        return tuple(_value(get_args(hint)[0], each, source, key) for each in value)
    if not _fits(hint, value):
        raise ConfigError(f"{source}: {key} must be {_describe(hint)}, not {_quoted(value)}")
    # No comparison with NaN is true, so a range that a section checks would let it pass.
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{source}: {key} must be a finite number, not {value}")
    if isinstance(value, int) and abs(value) > LARGEST:
        raise ConfigError(f"{source}: {key} must be at most {LARGEST:,}, not {_quoted(value)}")
    return value


def _quoted(value: object) -> str:
    # A whole number may have more digits than Python turns into text.
    return "that" if isinstance(value, int) and abs(value) > LARGEST else reprlib.repr(value)


def _fits(hint: Any, value: object) -> bool:
    if get_origin(hint) is Literal:
        return value in get_args(hint)
    if get_origin(hint) in (Union, UnionType):
        return any(_fits(option, value) for option in get_args(hint))
    return type(value) is hint  # exact, so that true is no whole number


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
