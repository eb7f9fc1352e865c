"""Tests the checks that compare the events of a stream with its answer."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.lab.service_client import Event
from benchmarks.lvlm.event_stream_checks import event_problems


def item(rank: int, source: str = "lvlm", name: str = "") -> dict[str, Any]:
    return {"item_id": name or f"I{rank}", "rank": rank, "source": source}


def answer(*items: dict[str, Any], explanation: str | None = None) -> Event:
    return "answer", {"items": list(items), "explanation": explanation}


CANDIDATES: Event = ("candidates", {"items": []})
ONE, TWO = ("item", item(1)), ("item", item(2))


@pytest.mark.parametrize(
    "events",
    [
        [CANDIDATES, answer(item(1, "toy"))],
        [CANDIDATES, ONE, TWO, answer(item(1), item(2), item(3, "toy"))],
        [CANDIDATES, ONE, ("explanation", {"explanation": "so"}), answer(item(1), explanation="so")],
    ],
)
def test_a_stream_that_ends_with_the_items_it_sent_is_right(events: list[Event]) -> None:
    assert list(event_problems(events)) == []


@pytest.mark.parametrize(
    ("events", "said"),
    [
        ([], "ends with nothing"),
        ([CANDIDATES, ONE], "ends with item"),
        ([ONE, answer(item(1))], "goes item, answer"),
        ([CANDIDATES, CANDIDATES, answer(item(1, "toy"))], "goes candidates, answer"),
        ([CANDIDATES, ONE, answer(item(1, "toy"))], "1 items were told as the LVLM's"),
        ([CANDIDATES, ONE, answer(item(1, name="other"))], "1 items were told as the LVLM's"),
        ([CANDIDATES, ONE, answer(item(1), item(2))], "1 items are the LVLM's in the answer and were never"),
        ([CANDIDATES, ("explanation", {"explanation": "so"}), answer(item(1, "toy"))], "1 explanations"),
        ([CANDIDATES, ONE, answer(item(1), explanation="so")], "0 explanations"),
        (
            [CANDIDATES, ("explanation", {"explanation": "so"}), answer(item(1, "toy"), explanation="so")],
            "does not explain",
        ),
    ],
)
def test_a_stream_that_takes_something_back_is_reported(events: list[Event], said: str) -> None:
    assert any(said in sentence for sentence in event_problems(events))
