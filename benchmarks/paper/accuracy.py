"""Scores raw records, by pure functions, the only ones that compare answers with targets.

There are two scores per record. *Strategy*: a target counts only if the strategy itself ranked it, that is
the LVLM for ``s1``, ``s3``, ``s4`` and ``s5``, and the candidate model for ``none`` and ``s2``; an answer
that failed is a miss and stays in the denominator. *As served*: the list that the user got counts, fallbacks
included.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.lab.stats import Interval, bootstrap_mean, mean, percentile, wilson
from models.evaluation import MISS, ndcg_at, sampled_metrics
from service.lvlm.providers.registry import SIMULATORS
from service.strategies import STRATEGIES

LVLM = "lvlm"
"""``items[].source`` of an item that the LVLM placed."""
REPAIRS = ("invented", "duplicated", "missing")
TOKENS = ("input_tokens", "output_tokens")

SIMULATED_WARNING = (
    "These answers come from the simulator: they check the instruments and are never quoted as a result."
)

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Accuracy:
    """H@1, H@5 and N@5 as shares of one, with 95 % intervals.

    Attributes:
        users: number of users, the denominator.
        values: share by metric.
        intervals: interval by metric: Wilson's, for N@5 a bootstrap.
    """

    users: int
    values: Mapping[str, float]
    intervals: Mapping[str, Interval]


@dataclass(frozen=True)
class StrategyResult:
    """Accuracy, repairs, cost and times of one strategy, from its records.

    Attributes:
        strategy: name of the strategy.
        strategy_score: accuracy of the ranks that the strategy gave, over all users.
        as_served: accuracy of the ranks that users got, over all users.
        answered_only: accuracy as in ``strategy_score`` without failed answers, which flatters, since hard
            users are left out; None when no answer was usable.
        outcomes: number of requests by outcome; ``failed`` are those without an answer.
        repairs: number of invented, duplicated and missing items in all answers.
        tokens: number of input and output tokens of all answers.
        lvlms: provider/model of every LVLM that was asked, sorted; more than one is a mixture.
        backbones: name and version of every candidate model that answered, sorted.
        cache_hits: number of answers whose LVLM part came from the cache.
        cost_usd: US dollars of all answers; None when the price of any is not known.
        estimated: number of answers whose tokens are estimated.
        mean_seconds: mean seconds that the client waited.
        p95_seconds: 95th percentile of the seconds that the client waited.
        simulated: whether the simulator answered any of them.
    """

    strategy: str
    strategy_score: Accuracy
    as_served: Accuracy
    answered_only: Accuracy | None
    outcomes: Mapping[str, int]
    repairs: Mapping[str, int]
    tokens: Mapping[str, int]
    lvlms: tuple[str, ...]
    backbones: tuple[str, ...]
    cache_hits: int
    cost_usd: float | None
    estimated: int
    mean_seconds: float
    p95_seconds: float
    simulated: bool

    @property
    def answers(self) -> int:
        """Number of users with an answer, fallbacks included."""
        return self.strategy_score.users - self.failures

    @property
    def failures(self) -> int:
        """Number of requests without an answer."""
        return self.outcomes.get("failed", 0)

    @property
    def fallbacks(self) -> int:
        """Number of answers for which the LVLM was asked and that it did not order."""
        return sum(count for outcome, count in self.outcomes.items() if outcome.startswith("fallback"))


def strategy_rank(record: Record) -> float:
    """Finds the target's rank if the strategy itself placed it, else ``MISS``."""
    index = _index(record)
    if index is None or record["items"][index].get("source") != _own_source(record):
        return MISS
    return _rank(record, index)


def served_rank(record: Record) -> float:
    """Finds the target's rank in the list that the user got; ``MISS`` without a list or the target."""
    index = _index(record)
    return MISS if index is None else _rank(record, index)


def answered(record: Record) -> bool:
    """Returns whether the strategy itself ranked any item of the answer."""
    return record.get("error") is None and any(
        i.get("source") == _own_source(record) for i in record["items"]
    )


def accuracy(ranks: Sequence[float]) -> Accuracy:
    """Averages ranks over users.

    Raises:
        EvaluationError: there are no ranks.
    """
    values = sampled_metrics(ranks)
    intervals = {f"H@{k}": wilson(sum(rank <= k for rank in ranks), len(ranks)) for k in (1, 5)}
    # A gain is not binary, so Wilson's interval does not apply.
    intervals["N@5"] = bootstrap_mean([ndcg_at([rank], 5) for rank in ranks])
    return Accuracy(len(ranks), values, intervals)


def score(strategy: str, records: Sequence[Record]) -> StrategyResult:
    """Scores the records of one strategy.

    Raises:
        EvaluationError: there are no records.
    """
    # Failures are in it as misses, and stay in the denominator.
    own = [strategy_rank(record) for record in records]
    # Ranks of the answers in which the strategy ranked anything: the lenient denominator.
    usable = [rank for rank, record in zip(own, records, strict=True) if answered(record)]
    calls = [record["lvlm"] for record in records if record.get("lvlm")]
    backbones = [record["backbone"] for record in records if record.get("backbone")]
    seconds = [float(record["client_seconds"]) for record in records]
    costs: list[float | None] = [call.get("cost_usd") for call in calls]
    return StrategyResult(
        strategy=strategy,
        strategy_score=accuracy(own),
        as_served=accuracy([served_rank(record) for record in records]),
        answered_only=accuracy(usable) if usable else None,
        outcomes=Counter("failed" if r.get("error") else str(r.get("outcome")) for r in records),
        repairs=_sums(calls, REPAIRS),
        tokens=_sums(calls, TOKENS),
        lvlms=_distinct(f"{call.get('provider')}/{call.get('model')}" for call in calls),
        backbones=_distinct(f"{found.get('name')} {found.get('version')}" for found in backbones),
        cache_hits=sum(call.get("cache") == "hit" for call in calls),
        cost_usd=known_sum(costs),
        estimated=sum(bool(call.get("estimated")) for call in calls),
        mean_seconds=mean(seconds),
        p95_seconds=percentile(seconds, 95),
        simulated=any(is_simulated(call) for call in calls),
    )


def is_simulated(call: Mapping[str, Any]) -> bool:
    """Returns whether the ``lvlm`` block of an answer comes from the simulator."""
    # Records of older versions lack the field; their names of provider and model show it.
    if call.get("simulated"):
        return True
    return str(call.get("provider")) in SIMULATORS or str(call.get("model")).startswith("simulator/")


def known_sum(costs: Iterable[float | None]) -> float | None:
    """Adds up costs; returns None if any is unknown, since the rest would look like the whole."""
    total = 0.0
    for cost in costs:
        if cost is None:
            return None
        total += cost
    return total


def by_strategy(records: Iterable[Record]) -> dict[str, list[Record]]:
    """Groups records by strategy, in the order of ``STRATEGIES``; a user's first record counts."""
    groups: dict[str, dict[int, Record]] = {}
    for record in records:
        # setdefault keeps the first record of a user.
        groups.setdefault(record["strategy"], {}).setdefault(record["user"], record)
    order = {name: number for number, name in enumerate(STRATEGIES)}
    return {
        name: list(groups[name].values())
        for name in sorted(groups, key=lambda name: order.get(name, len(order)))
    }


def _own_source(record: Record) -> str | None:
    """Returns the ``source`` of items that the strategy itself ranked; None without a backbone."""
    if STRATEGIES[record["strategy"]].asks_lvlm:
        return LVLM
    name = (record.get("backbone") or {}).get("name")
    return name if isinstance(name, str) else None


def _index(record: Record) -> int | None:
    if record.get("error") is not None:
        return None
    indexes = [i for i, item in enumerate(record["items"]) if item.get("item_id") == record["target"]]
    return indexes[0] if indexes else None


def _rank(record: Record, index: int) -> float:
    """Counts the rank from 1, with every tie decided against the target.

    An LVLM gives an order without ties. A candidate model gives scores: items after the target with an equal
    score, or with one that cannot be compared, count as ranked above it.
    """
    items = record["items"]
    if items[index].get("source") == LVLM:
        return index + 1
    own = _number(items[index].get("score"))
    # Items above the target rank above it already, whatever their score.
    rivals = (item for item in items[index + 1 :] if item.get("source") == items[index].get("source"))
    # "not <" in place of ">=", so that NaN on either side counts as a tie too.
    return 1 + index + sum(not _number(item.get("score")) < own for item in rivals)


def _number(score: Any) -> float:
    return float(score) if isinstance(score, (int, float)) else float("nan")


def _distinct(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(set(names)))


def _sums(calls: Iterable[Mapping[str, Any]], keys: tuple[str, ...]) -> dict[str, int]:
    return {key: sum(int(call.get(key) or 0) for call in calls) for key in keys}
