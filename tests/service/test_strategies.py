"""The six strategies: two views of an item times three ways to rank."""

from typing import get_args

from service.strategies import STRATEGIES, StrategyName


def test_requests_can_name_exactly_the_strategies_of_the_table() -> None:
    assert set(get_args(StrategyName)) == set(STRATEGIES)


def test_every_view_is_ranked_in_each_of_the_three_ways() -> None:
    cells = {(strategy.view, strategy.task) for strategy in STRATEGIES.values()}
    assert len(cells) == len(STRATEGIES) == 6
