from __future__ import annotations

from pathlib import Path

import pytest

from loadtest.scenario import SCENARIOS, STRATEGIES, Scenario, ScenarioError, read_scenario
from service import strategies

GOOD = {"wait": "[0.1, 0.2]", "k": "5", "new": "0.5", "session": "0", "weights": "{ none = 2, s3 = 0 }"}


def scenario(folder: Path, **changes: str) -> Scenario:
    path = folder / "s.toml"
    lines = [f"{name} = {value}" for name, value in (GOOD | changes).items() if value]
    path.write_text("\n".join(["[one]", *lines]))
    return read_scenario(path, "one")


@pytest.mark.parametrize("name", ["mixed", "candidates", "rerank"])
def test_every_scenario_of_the_repository_can_be_read(name: str) -> None:
    assert read_scenario(SCENARIOS, name).weights


def test_the_default_scenario_asks_every_strategy() -> None:
    assert set(read_scenario(SCENARIOS, "mixed").weights) == set(strategies.STRATEGIES)


def test_the_strategies_are_those_of_the_service() -> None:
    assert set(STRATEGIES) == set(strategies.STRATEGIES)


def test_a_strategy_of_weight_zero_is_not_asked(tmp_path: Path) -> None:
    assert scenario(tmp_path).weights == {"none": 2.0}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"wait": "[2, 1]"}, "wait is two numbers"),
        ({"wait": "1"}, "wait is two numbers"),
        ({"k": "0"}, "k is a whole number"),
        ({"k": "2.5"}, "k is a whole number"),
        ({"new": "1.5"}, "new is a share"),
        ({"session": "true"}, "session is a share"),
        ({"weights": "{ s9 = 1 }"}, "weights are a table of none, s1"),
        ({"weights": "{ none = -1 }"}, "at least 0"),
        ({"weights": "{ none = 0 }"}, "not all of them 0"),
        ({"weights": ""}, "needs exactly k, new, session, wait, weights"),
        ({"extra": "1"}, "needs exactly"),
    ],
)
def test_a_wrong_value_is_named(tmp_path: Path, changes: dict[str, str], message: str) -> None:
    with pytest.raises(ScenarioError, match=message):
        scenario(tmp_path, **changes)


def test_a_missing_scenario_lists_those_that_exist(tmp_path: Path) -> None:
    scenario(tmp_path)
    with pytest.raises(ScenarioError, match=r"no scenario 'two'.*it has one"):
        read_scenario(tmp_path / "s.toml", "two")
    with pytest.raises(ScenarioError, match="cannot read"):
        read_scenario(tmp_path / "absent.toml", "one")
    (tmp_path / "broken.toml").write_text("[one")
    with pytest.raises(ScenarioError, match="is not TOML"):
        read_scenario(tmp_path / "broken.toml", "one")


def test_refused_strategies_are_left_out_until_none_is_left(tmp_path: Path) -> None:
    found = scenario(tmp_path, weights="{ none = 1, s2 = 3 }")
    assert found.without({"s2"}).weights == {"none": 1.0}
    with pytest.raises(ScenarioError, match="refuses"):
        found.without(["none", "s2"])
