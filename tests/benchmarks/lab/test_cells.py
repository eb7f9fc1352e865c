from __future__ import annotations

from benchmarks.lab.cells import counted, dollars


def test_a_number_stands_before_what_it_counts() -> None:
    assert (counted(1, "user"), counted(1_200, "user")) == ("1 user", "1,200 users")


def test_an_amount_says_that_it_is_simulated() -> None:
    assert dollars(0.0031, 4, simulated=True) == "0.0031 (simulated)"
    assert dollars(0.0031, 4, simulated=False) == "0.0031"
    assert dollars(None, 4, simulated=True) == "–"
