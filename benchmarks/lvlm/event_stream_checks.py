"""Checks the events of a stream against the answer that ends it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmarks.lab.service_client import ANSWER_EVENT, Event

CANDIDATES, ITEM, EXPLANATION = "candidates", "item", "explanation"
"""Kinds of events before the last one."""
LVLM = "lvlm"
"""``source`` of an item that the LVLM placed."""


def event_problems(events: Sequence[Event]) -> Iterator[str]:
    """Yields a sentence for everything that is wrong.

    The candidates must come first and the answer last, once each. The items of ``item`` events must be those
    that the LVLM placed in the answer, at the same ranks. An explanation must be the same as in the answer,
    and the LVLM must have placed items.
    """
    kinds = [kind for kind, _ in events]
    # Without the answer there is nothing to compare with.
    if kinds[-1:] != [ANSWER_EVENT]:
        yield f"the event stream ends with {kinds[-1] if kinds else 'nothing'} instead of its answer"
        return
    if kinds[0] != CANDIDATES or kinds.count(CANDIDATES) != 1 or kinds.count(ANSWER_EVENT) != 1:
        yield f"the event stream goes {', '.join(dict.fromkeys(kinds))}"
    answer = events[-1][1]
    # With ranks: an item that has another rank in the answer was taken back too.
    announced = {(item["rank"], item["item_id"]) for kind, item in events if kind == ITEM}
    placed = {(item["rank"], item["item_id"]) for item in answer["items"] if item["source"] == LVLM}
    if taken_back := announced - placed:
        yield f"{len(taken_back)} items were told as the LVLM's, and the answer takes them back"
    if unannounced := placed - announced:
        yield f"{len(unannounced)} items are the LVLM's in the answer and were never told"
    explanations = [content.get("explanation") for kind, content in events if kind == EXPLANATION]
    # An explanation is one event, never in parts.
    wanted = [answer["explanation"]] if answer.get("explanation") is not None else []
    if explanations != wanted:
        yield f"{len(explanations)} explanations were told, and the answer has {len(wanted)}"
    if wanted and not placed:
        yield "an explanation stands beside an order that it does not explain"
