"""What must be true of the events of a watched request, whatever the provider does. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmarks.lab.service_client import ANSWER, Event

CANDIDATES, ITEM, EXPLANATION = "candidates", "item", "explanation"
LVLM = "lvlm"


def wrong_telling(events: Sequence[Event]) -> Iterator[str]:
    """A sentence for everything that is wrong.

    The candidates come first and the answer last, once each. An item that was told as the LVLM's stands in
    the answer at the same rank as the LVLM's, and the other way round. An explanation is told only as the
    answer has it, with a ranking that it explains.
    """
    kinds = [kind for kind, _ in events]
    if kinds[-1:] != [ANSWER]:
        yield f"the event stream ends with {kinds[-1] if kinds else 'nothing'} instead of its answer"
        return
    if kinds[0] != CANDIDATES or kinds.count(CANDIDATES) != 1 or kinds.count(ANSWER) != 1:
        yield f"the event stream goes {', '.join(dict.fromkeys(kinds))}"
    answer = events[-1][1]
    told = {(item["rank"], item["item_id"]) for kind, item in events if kind == ITEM}
    placed = {(item["rank"], item["item_id"]) for item in answer["items"] if item["source"] == LVLM}
    if taken_back := told - placed:
        yield f"{len(taken_back)} items were told as the LVLM's, and the answer takes them back"
    if untold := placed - told:
        yield f"{len(untold)} items are the LVLM's in the answer and were never told"
    explanations = [content.get("explanation") for kind, content in events if kind == EXPLANATION]
    wanted = [answer["explanation"]] if answer.get("explanation") is not None else []
    if explanations != wanted:
        yield f"{len(explanations)} explanations were told, and the answer has {len(wanted)}"
    if wanted and not placed:
        yield "an explanation stands beside an order that it does not explain"
