from __future__ import annotations

import pytest
from small_data import small_dataset

from models.comparison.contenders import contenders, known_names
from models.contracts.paper import accuracy_of, table1
from models.training.config import ConfigError, load, path_of


def test_every_row_of_table_1_without_an_lvlm_has_a_contender_in_both_forms() -> None:
    rows = contenders(small_dataset(), ("paper", "ours"))
    named = {(row.method, row.strategy, row.form) for row in rows}
    for row in table1():
        if row.strategy in (None, "S2"):
            for form in ("paper", "ours"):
                assert (row.method, row.strategy, form) in named


def test_a_contender_names_a_row_of_the_paper_and_a_configuration_that_loads() -> None:
    for row in contenders(small_dataset(), ("paper", "ours")):
        if row.method is not None:
            assert accuracy_of(row.method, row.strategy).method == row.method
        if row.configuration is not None and not row.absent:
            assert load(path_of(row.configuration), row.settings).family


def test_s2_has_a_row_for_each_lvlm_of_the_paper_and_for_any_other_captioner() -> None:
    dataset = small_dataset(captions={"gpt4o": {0: "A red square."}, "simulator": {0: "Red."}})
    rows = contenders(dataset, ("ours",), ("s2",))
    assert [(row.label, row.method, bool(row.absent)) for row in rows] == [
        ("S2 GPT-4V", "GPT-4V", True),
        ("S2 GPT-4o", "GPT-4o", False),
        ("S2 Claude 3-Opus", "Claude 3-Opus", True),
        ("S2 simulator", None, False),
    ]
    assert "no captions of gpt4v" in rows[0].absent


def test_a_table_may_name_any_other_configuration_and_refuses_what_is_none() -> None:
    rows = contenders(small_dataset(), ("ours",), ("sasrec", "morec-t-id", "iisan-paper-512"))
    assert [(row.label, row.form, row.configuration) for row in rows] == [
        ("SASRec", "ours", "sasrec"),
        ("morec-t-id", "ours", "morec-t-id"),
        ("iisan-paper-512", "paper", "iisan-paper-512"),
    ]
    with pytest.raises(ConfigError, match="dance: known are random"):
        contenders(small_dataset(), ("ours",), ("dance",))
    assert len(set(known_names())) == len(known_names())
