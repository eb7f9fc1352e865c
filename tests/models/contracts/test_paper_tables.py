from __future__ import annotations

import pytest

from models.contracts.paper import METRICS, accuracy_of, method_of, seconds_of, table1, table2


def test_a_row_of_table_1_is_found_by_method_and_strategy() -> None:
    assert accuracy_of("MoRec (T+I)").percents["beauty"] == dict(
        zip(METRICS, (33.0, 61.5, 47.92), strict=True)
    )
    assert accuracy_of("GPT-4o", "S2").percents["toys"]["N@5"] == 45.0
    assert len(table1()) == 10 + 3 * 5
    with pytest.raises(KeyError, match="GPT-5"):
        accuracy_of("GPT-5", "S1")


def test_every_row_of_table_1_has_all_figures_of_all_categories() -> None:
    for row in table1():
        assert row.percents.keys() == {"beauty", "sports", "toys", "clothing"}
        for figures in row.percents.values():
            assert 0 < figures["H@1"] < figures["N@5"] < figures["H@5"] < 100


def test_table_2_times_the_training_of_what_is_trained() -> None:
    assert seconds_of("SASRec").training == 5.4
    assert seconds_of("GPT-4V", "S1").training is None
    assert seconds_of("GPT-4o", "S2").training == 5.9  # one row for all three
    assert len(table2()) == 8 + 1 + 12
    with pytest.raises(KeyError, match="S1"):
        seconds_of("SASRec", "S1")


@pytest.mark.parametrize(
    ("family", "modalities", "method"),
    [
        ("sasrec", ("id",), "SASRec"),
        ("morec", ("text",), "MoRec (T)"),
        ("morec", ("text", "image"), "MoRec (T+I)"),
        ("morec", ("id", "text"), None),
        ("bm3", ("text", "image"), "BM3"),
        ("followers", ("id",), None),
    ],
)
def test_a_recommender_of_ours_stands_beside_the_row_of_its_family_and_inputs(
    family: str, modalities: tuple[str, ...], method: str | None
) -> None:
    assert method_of(family, modalities) == method
    if method is not None:
        assert accuracy_of(method).method == seconds_of(method).model
