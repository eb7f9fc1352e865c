"""Reads a scenario, which says how visitors behave, from ``scenarios.toml``, and checks its values."""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

SCENARIOS = Path(__file__).with_name("scenarios.toml")

STRATEGIES = ("none", "s1", "s2", "s3", "s4", "s5")
"""Strategies of the service, repeated here since a load test imports nothing of it; a test compares both."""


class ScenarioError(Exception):
    """A scenario is missing or has a wrong value; the message names it."""


@dataclass(frozen=True)
class Scenario:
    """The behaviour of the visitors.

    Attributes:
        wait: shortest and longest pause of one visitor between requests, in seconds.
        k: number of items per answer, 1 to 100.
        new: share of visitors that the service does not know, 0 to 1.
        session: share of requests with a history of their own, 0 to 1.
        weights: weight above 0 of each strategy that is asked for.
    """

    wait: tuple[float, float]
    k: int
    new: float
    session: float
    weights: Mapping[str, float]

    def without(self, refused: Collection[str]) -> Scenario:
        """Makes the same scenario without strategies that a service cannot serve.

        Raises:
            ScenarioError: none is left.
        """
        weights = {name: weight for name, weight in self.weights.items() if name not in refused}
        if not weights:
            raise ScenarioError(
                f"this service serves no strategy of the scenario: it refuses {', '.join(refused)}"
            )
        return replace(self, weights=weights)


def read_scenario(path: Path, name: str) -> Scenario:
    """Reads one scenario.

    Raises:
        ScenarioError: the file or the scenario is missing, or a value is wrong.
    """
    try:
        scenarios = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ScenarioError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise ScenarioError(f"{path} is not TOML: {error}") from error
    if name not in scenarios:
        raise ScenarioError(f"no scenario {name!r} in {path}; it has {', '.join(scenarios)}")
    return _checked(name, scenarios[name])


def _checked(name: str, values: Mapping[str, Any]) -> Scenario:
    expected = {"wait", "k", "new", "session", "weights"}
    # Exactly: a misspelt key would otherwise be ignored.
    if not isinstance(values, dict) or values.keys() != expected:
        raise ScenarioError(f"the scenario {name} needs exactly {', '.join(sorted(expected))}")
    wait, k, weights = values["wait"], values["k"], values["weights"]
    if not (
        isinstance(wait, list) and len(wait) == 2 and all(map(_is_number, wait)) and 0 <= wait[0] <= wait[1]
    ):
        raise ScenarioError(f"the scenario {name}: wait is two numbers of seconds, the smaller first")
    if not (isinstance(k, int) and 1 <= k <= 100):
        raise ScenarioError(f"the scenario {name}: k is a whole number from 1 to 100")
    for share in ("new", "session"):
        if not (_is_number(values[share]) and 0 <= values[share] <= 1):
            raise ScenarioError(f"the scenario {name}: {share} is a share from 0 to 1")
    return Scenario(
        wait=(float(wait[0]), float(wait[1])),
        k=k,
        new=float(values["new"]),
        session=float(values["session"]),
        weights=_checked_weights(name, weights),
    )


def _checked_weights(name: str, weights: Any) -> dict[str, float]:
    if not isinstance(weights, dict) or not weights.keys() <= set(STRATEGIES):
        raise ScenarioError(f"the scenario {name}: weights are a table of {', '.join(STRATEGIES)}")
    if not all(_is_number(weight) and weight >= 0 for weight in weights.values()) or not any(
        weights.values()
    ):
        raise ScenarioError(f"the scenario {name}: weights are numbers of at least 0, not all of them 0")
    # A weight of 0 leaves a strategy out.
    return {strategy: float(weight) for strategy, weight in weights.items() if weight > 0}


def _is_number(value: Any) -> bool:
    # TOML's true is a Python bool, which is an int.
    return isinstance(value, (int, float)) and not isinstance(value, bool)
