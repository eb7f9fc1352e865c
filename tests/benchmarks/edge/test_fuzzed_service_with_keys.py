"""A service with keys and named hosts answers five thousand generated requests within its contract."""

from collections.abc import Iterator
from typing import Any

import pytest

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def fuzzed(fuzzing: Any) -> Iterator[Any]:
    with fuzzing(
        api_key="key-of-the-fuzzed-service",
        read_key="read-key-of-the-fuzzed-service",
        metrics_open="false",
        allowed_hosts="127.0.0.1,shop.example",
        cors_origins="https://shop.example",
    ) as fuzzed:
        yield fuzzed


@pytest.mark.parametrize("seed", range(5, 10))
def test_no_answer_breaks_the_contract_with_a_key(fuzzed: Any, seed: int) -> None:
    result = fuzzed.send(seed)
    assert not result.faults
    assert result.statuses[200] > 200
    assert result.statuses[401] > 10
