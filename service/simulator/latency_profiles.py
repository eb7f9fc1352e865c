"""Decides how long answers take: latency profiles, and the schedule of the tokens of one reply."""

from __future__ import annotations

import asyncio
import tomllib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

PAPER_TABLE = Path(__file__).with_name("paper.toml")
"""The 12 timed LVLM rows of the paper's Table 2, in seconds, with the assumptions that fill its gaps."""

_STRATEGIES = ("s1", "s3", "s4", "s5")  # the strategies that call an LVLM


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds that an answer takes.

    Attributes:
        first: seconds from the request to the first token.
        each: seconds from each token to the next.
    """

    first: float
    each: float

    def total(self, tokens: int) -> float:
        """Sums up the seconds from the request to the last of so many tokens."""
        return self.first + self.each * max(0, tokens - 1)


@dataclass(frozen=True, slots=True)
class Schedule:
    """The moments at which the tokens of one reply are due.

    Attributes:
        timing: seconds to the first token and from each to the next.
        started: time at which the request arrived, in seconds of the event loop's clock.
    """

    timing: Timing
    started: float

    def end(self, tokens: int) -> float:
        """Computes when the last of so many tokens is due, in seconds of the event loop's clock."""
        return self.started + self.timing.total(tokens)

    def made(self, tokens: int, now: float) -> int:
        """Counts how many of so many tokens are due at a time of the event loop's clock."""
        passed = now - self.started - self.timing.first
        if passed < 0:
            return 0
        return min(tokens, tokens if self.timing.each <= 0 else 1 + int(passed / self.timing.each))

    async def paced(self, tokens: Sequence[str]) -> AsyncIterator[Sequence[str]]:
        """Yields tokens when they are due.

        A late wake-up yields all that are due by then, so that a busy loop does not stretch the schedule.
        """
        clock = asyncio.get_running_loop().time
        first, each = self.timing.first, self.timing.each
        sent = 0
        while sent < len(tokens):
            wait = self.started + first + sent * each - clock()
            if wait > 0:
                await asyncio.sleep(wait)
                continue
            # Negative wait: late by so many seconds, each of which has made more tokens due.
            due = len(tokens) if each <= 0 else sent + 1 + int(-wait / each)
            yield tokens[sent:due]
            sent = min(due, len(tokens))


class Profile(Protocol):
    """Decides how long an answer takes."""

    @property
    def name(self) -> str:
        """Name of the profile on the command line."""
        ...

    def timing(self, model: str, strategy: str | None, tokens: int) -> Timing:
        """Decides the timing of an answer of so many tokens by a model for a strategy."""
        ...


@dataclass(frozen=True, slots=True)
class Instant:
    """Answers without any wait, for tests."""

    name: str = "instant"

    def timing(self, model: str, strategy: str | None, tokens: int) -> Timing:
        """See Profile."""
        return Timing(0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Fast:
    """Answers as a quick model does, for demos.

    Attributes:
        time_to_first_token: seconds, at least 0.
        tokens_per_second: rate after the first token, above 0.
    """

    time_to_first_token: float = 0.15
    tokens_per_second: float = 200.0
    name: str = "fast"

    def timing(self, model: str, strategy: str | None, tokens: int) -> Timing:
        """See Profile."""
        return Timing(self.time_to_first_token, 1 / self.tokens_per_second)


class Paper:
    """Answers in the seconds of the paper's Table 2, by model and strategy.

    Args:
        speed_up: divisor of all times, above 0.
        table: TOML file like ``paper.toml``, whose comments explain the fields.

    Raises:
        ValueError: the table lacks a field or the row for any model and any strategy.
    """

    name = "paper"

    def __init__(self, speed_up: float = 1.0, table: Path = PAPER_TABLE) -> None:
        content = tomllib.loads(table.read_text("utf-8"))
        try:
            self._share = float(content["assumptions"]["first_token_share"])
            self._per_token = float(content["assumptions"]["seconds_per_output_token"])
            self._seconds = _seconds(content["rows"], content["models"])
        except KeyError as missing:
            raise ValueError(
                f"{table} has no field {missing}: see the comments in {PAPER_TABLE.name}"
            ) from None
        if ("*", "*") not in self._seconds:
            raise ValueError(f'{table} needs a row with model = "*" and strategy = "*"')
        self._speed_up = speed_up

    def timing(self, model: str, strategy: str | None, tokens: int) -> Timing:
        """See Profile."""
        if strategy in _STRATEGIES:
            # The most specific row wins.
            keys = ((model, strategy), (model, "*"), ("*", strategy), ("*", "*"))
            seconds = next(self._seconds[key] for key in keys if key in self._seconds)
        else:
            # Captions and chats have no row.
            seconds = self._per_token * tokens
        seconds /= self._speed_up
        if tokens < 2:
            return Timing(seconds, 0.0)
        # The first token takes a share, the others the rest evenly; a sole token takes all.
        return Timing(self._share * seconds, (1 - self._share) * seconds / (tokens - 1))


def _seconds(
    rows: Sequence[dict[str, Any]], names: Mapping[str, Sequence[str]]
) -> dict[tuple[str, str], float]:
    """Returns seconds by the name of a model in a request, or ``*``, and strategy."""
    return {
        (name, row["strategy"]): float(row["seconds"])
        for row in rows
        for name in (["*"] if row["model"] == "*" else names[row["model"]])
    }
