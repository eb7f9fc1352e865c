"""An open service answers five thousand generated requests within its contract, and its memory stays flat."""

from collections.abc import Iterator
from typing import Any

import pytest

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def fuzzed(fuzzing: Any) -> Iterator[Any]:
    with fuzzing() as fuzzed:
        yield fuzzed


@pytest.mark.parametrize("seed", range(5))
def test_no_answer_breaks_the_contract(fuzzed: Any, seed: int) -> None:
    result = fuzzed.send(seed)
    assert not result.faults
    assert result.statuses[200] > 200  # enough of them are what clients mean to send


def test_memory_is_as_after_the_first_thousand(fuzzed: Any) -> None:
    assert len(fuzzed.memory) == 5, "run the whole file"
    assert fuzzed.memory[-1] - fuzzed.memory[0] < 20
