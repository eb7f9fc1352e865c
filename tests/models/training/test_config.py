from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from toy_models import record

from models.networks.registry import FAMILIES
from models.training.config import CONFIGS, ConfigError, configs, from_json, load


@pytest.mark.parametrize("name", configs())
def test_every_shipped_configuration_is_valid_and_lasts_through_json(name: str) -> None:
    config = load(CONFIGS / f"{name}.toml")
    first = name.partition("-")[0]
    assert config.family == ("morec" if first in ("demo", "s2") else first)
    assert from_json(config.to_json(), "again") == config


def test_the_paper_has_its_rows_at_the_size_of_its_experiments() -> None:
    for name in ("sasrec", "morec-t", "morec-i", "morec-ti", "s2", "s2-init"):
        network = load(CONFIGS / f"{name}-paper.toml").network
        assert (network.blocks, network.heads, network.dimension, network.length) == (2, 2, 512, 10)


@pytest.mark.parametrize(
    ("section", "changes", "complaint"),
    [
        (
            "network",
            {"dimensions": 3},
            "unknown key network.dimensions; known are attention_bias, blocks",
        ),
        ("network", {"dimension": "64"}, "network.dimension must be a whole number, not '64'"),
        ("network", {"dimension": 1.5}, "network.dimension must be a whole number"),
        ("network", {"blocks": True}, "network.blocks must be a whole number"),
        ("network", {"heads": 3}, r"heads \(3\) must divide dimension \(16\)"),
        ("network", {"length": 0}, "at least 1"),
        ("network", {"dropout": 1.0}, "dropout must be in"),
        ("network", {"norm": "after"}, "network.norm must be one of pre, post"),
        ("network", {"norm_eps": 0.0}, "norm_eps must be above 0"),
        ("network", {"feed_forward": -1}, "feed_forward must be from 0 to 16384"),
        ("tower", {"modalities": ["sound"]}, "tower.modalities must be one of id, text, image, not 'sound'"),
        ("tower", {"modalities": "id"}, "tower.modalities must be a list, each one of id"),
        ("tower", {"modalities": []}, "at least one"),
        ("tower", {"modalities": ["id", "id"]}, "each once"),
        ("tower", {"fusion": "product"}, "tower.fusion must be one of sum, concat"),
        ("tower", {"hidden": 0}, "hidden must be at least 1"),
        ("tower", {"dropout": -0.1}, "dropout must be in"),
        ("tower", {"projection": "cubic"}, "tower.projection must be one of mlp, linear, authors"),
        ("tower", {"layers": 2}, 'layers are those of projection = "authors"'),
        ("tower", {"layers": -1}, "layers and id_width must be from 0 to 16384"),
        ("tower", {"modalities": ["text"], "id_width": 8}, "id_width needs id among the modalities"),
        ("tower", {"table": "trained"}, "table trained needs text or image"),
        ("training", {"log_q": 1}, "training.log_q must be true or false"),
        ("training", {"learning_rate": 0}, "above 0"),
        ("training", {"learning_rate": "fast"}, "training.learning_rate must be a number"),
        ("training", {"epochs": 0}, "at least 1"),
        ("training", {"sequences": 4}, "one of positions and sequences must be at least 1, and the other 0"),
        ("training", {"positions": 0}, "one of positions and sequences must be at least 1, and the other 0"),
        ("training", {"loss": "bce"}, "negatives must be 1 and log_q false"),
        ("training", {"loss": "bce", "negatives": 1, "log_q": True}, "negatives must be 1 and log_q false"),
        ("training", {"beta2": 1.0}, "beta2 must be from 0 to below 1"),
        ("training", {"negatives": -1}, "negatives must be from 0 to 1,048,576"),
        ("training", {"negatives": 2**21}, "negatives must be from 0 to 1,048,576"),
        ("training", {"learning_rate": 1e300}, "learning_rate must be above 0 and at most 1e"),
        ("features", {"text_view": "enhanced"}, "needs a captioner"),
        ("features", {"text_pooling": "layers"}, "read one vector of a text or picture, not its layers"),
        ("features", {"captioner": "x"}, "only that view has one"),
        ("features", {"captioner": 3}, "features.captioner must be a string or nothing"),
        ("features", {"text_view": "enhanced", "captioner": "x"}, "needs text among the modalities"),
    ],
)
def test_a_wrong_value_stops_with_a_sentence_that_names_it(
    section: str, changes: dict[str, object], complaint: str
) -> None:
    with pytest.raises(ConfigError, match=complaint):
        from_json(record(**{section: changes}), "some.toml")


def test_a_missing_key_and_a_missing_section_are_named() -> None:
    values = record()
    del values["training"]["seed"]
    with pytest.raises(ConfigError, match=r"training\.seed is missing"):
        from_json(values, "some.toml")
    with pytest.raises(ConfigError, match="network is missing"):
        from_json({"training": values["training"], "tower": values["tower"]}, "some.toml")
    with pytest.raises(ConfigError, match="network must be a table"):
        from_json(record() | {"network": 3}, "some.toml")


def test_single_settings_change_single_values_and_words_need_no_quotes() -> None:
    config = load(
        CONFIGS / "sasrec.toml",
        [
            "network.dimension=32",
            "tower.fusion=concat",
            "training.learning_rate=1",
            'tower.modalities=["text"]',
        ],
    )
    assert (config.network.dimension, config.tower.fusion) == (32, "concat")
    assert config.training.learning_rate == 1.0
    assert config.family == "morec"


def test_a_configuration_without_a_family_is_one_of_the_first_two() -> None:
    assert from_json(record(), "old.json").family == "sasrec"
    assert from_json(record(tower={"modalities": ["id", "text"]}), "old.json").family == "morec"


@pytest.mark.parametrize(
    ("family", "complaint"),
    [
        ("gru4rec", "no family 'gru4rec'; known are sasrec, morec"),
        (3, "no family 3"),
        ("morec", "tower.modalities does not fit morec"),
    ],
)
def test_a_family_that_is_not_there_or_does_not_fit_is_refused(family: object, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        from_json(record() | {"family": family}, "some.toml")


@pytest.mark.parametrize("setting", ["dimension=3", "network.dimension", "network.size=3", "nothing.at=all"])
def test_a_setting_that_changes_nothing_is_refused(setting: str) -> None:
    with pytest.raises(ConfigError):
        load(CONFIGS / "sasrec.toml", [setting])


def test_files_that_are_absent_or_not_toml_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"named ones are .*sasrec"):
        load(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("[network\n")
    with pytest.raises(ConfigError, match="is not TOML"):
        load(tmp_path / "bad.toml")


def _numbers(kind: type[Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yields section and key of every number in a family's configuration."""
    for name, hint in get_type_hints(kind).items():
        if is_dataclass(hint):
            yield from ((name, key) for _, key in _numbers(hint, name))
        elif hint in (int, float):
            yield prefix, name


@pytest.mark.parametrize(
    "value", [math.nan, math.inf, -math.inf, 10**30, -(10**4000), -1], ids=lambda value: str(value)[:9]
)
def test_no_number_of_any_family_may_be_nan_infinite_or_out_of_its_range(value: float) -> None:
    shipped = {config.family: config.to_json() for config in (load(CONFIGS / f"{n}.toml") for n in configs())}
    for family, network in FAMILIES.items():
        values = shipped[family]
        for section, key in _numbers(network.config_type):
            changed = {**values, "family": family, section: {**values[section], key: value}}
            with pytest.raises(ConfigError, match=key):
                from_json(changed, "some.toml")


def test_a_network_of_a_size_that_would_fill_the_memory_is_refused() -> None:
    for section, key in (("network", "dimension"), ("network", "length"), ("tower", "hidden")):
        with pytest.raises(ConfigError, match=rf"{key}.* at most 16384"):
            from_json(record(**{section: {key: 1_000_000}}), "some.toml")


@pytest.mark.parametrize("text", ["a = " + "9" * 5_000, "a = " + "[" * 5_000])
def test_a_file_that_the_parser_cannot_bear_is_not_toml(text: str, tmp_path: Path) -> None:
    (tmp_path / "odd.toml").write_text(text)
    with pytest.raises(ConfigError, match="is not TOML"):
        load(tmp_path / "odd.toml")


def test_a_configuration_has_values_of_its_own_for_single_data_sets(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    text = (CONFIGS / "sasrec.toml").read_text(encoding="utf-8")
    path.write_text(text + "\n[datasets.sports.training]\nlearning_rate = 5e-4\n", encoding="utf-8")
    assert load(path).training.learning_rate == load(path, dataset="beauty").training.learning_rate == 1e-3
    assert load(path, dataset="sports").training.learning_rate == 5e-4
    assert load(path, ["training.learning_rate=0.1"], "sports").training.learning_rate == 0.1


def test_a_data_set_for_which_a_configuration_has_no_values_is_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    load(CONFIGS / "mmgcn-paper.toml", dataset="toys")
    load(CONFIGS / "sasrec.toml", dataset="toys_and_games")
    assert not caplog.messages
    load(CONFIGS / "mmgcn-paper.toml", dataset="toys_and_games")
    (said,) = caplog.messages
    assert "beauty, sports, toys, clothing, and for toys_and_games those that stand before them" in said


@pytest.mark.parametrize(
    ("tables", "complaint"),
    [
        ("[datasets.sports]\nlearning_rate = 5e-4\n", "datasets.sports must be tables of sections"),
        ("[datasets.sports.training]\nrate = 5e-4\n", "datasets.sports: unknown key training.rate"),
        ('[datasets]\nsports = "slow"\n', "datasets.sports must be tables of sections"),
    ],
)
def test_wrong_values_for_another_data_set_are_found_too(tmp_path: Path, tables: str, complaint: str) -> None:
    path = tmp_path / "own.toml"
    path.write_text((CONFIGS / "sasrec.toml").read_text(encoding="utf-8") + tables, encoding="utf-8")
    with pytest.raises(ConfigError, match=complaint):
        load(path, dataset="beauty")
