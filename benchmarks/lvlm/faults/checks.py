"""What must be true of a cell of the fault matrix: its answers, attempts, refusals and repairs. Pure.

Each check yields a sentence for everything that is wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.lab.service_client import Reply
from benchmarks.lab.simulator_control import LedgerRow
from benchmarks.lvlm.event_stream_checks import wrong_telling
from benchmarks.lvlm.faults.cells import BREAKS, EXPECTED, HANGING, REFUSALS, Cell, K
from service.lvlm.breaker import VERDICTS
from service.simulator.faults import NO_SCHEMA

HALVES = ("reset_midstream", "error_in_stream", "truncated", "no_finish_half")
"""Come when a part of the ranking is there."""

REPAIR_KINDS = ("invented", "duplicated", "missing")
REPAIRS: Mapping[str, tuple[int, int, int]] = {
    "duplicate": (0, 1, 1),
    "missing": (0, 0, K // 2),
    "unknown": (1, 0, 1),
    "half_label": (0, 0, K // 2 + 1),  # half of them are named, and the last of those only by half
}
"""Fault -> what is repaired in an answer, by kind; nothing in others that the LVLM ordered."""


@dataclass(frozen=True)
class Asked:
    """One request of a cell.

    Attributes:
        pool: item ids that were to be ranked.
        watched: events were asked for.
    """

    pool: frozenset[str]
    reply: Reply
    watched: bool = False


def wrong_answers(cell: Cell, asked: Iterable[Asked]) -> Iterator[str]:
    """Answers that are no 200 at once with K different items of the pool and the right outcome."""
    for one in asked:
        reply = one.reply
        if reply.attempts != 1:
            yield f"the service took the request only when it was sent {reply.attempts} times"
        ids = [item["item_id"] for item in reply.body.get("items", ())]
        if reply.status != 200 or len(ids) != K or len(set(ids)) != K:
            yield reply.error or f"{len(set(ids))} different items among {len(ids)}"
            continue
        if one.watched:
            yield from wrong_telling(reply.events)
        if strangers := set(ids) - one.pool:
            yield f"{len(strangers)} items are not of the pool, {min(strangers)} for one"
        yield from _wrong_outcome(cell, reply.body, one.watched)


def _wrong_outcome(cell: Cell, body: Mapping[str, Any], watched: bool) -> Iterator[str]:
    outcome, lvlm = body["outcome"], body["lvlm"]
    # What an event stream has told stands when the attempt that it is from breaks off.
    told = ("partial",) if watched and cell.fault in HALVES else ()
    if outcome not in EXPECTED[cell.fault][cell.mode] + told:
        yield f"outcome {outcome}"
    if body["served"] != ("none" if outcome.startswith("fallback") else cell.strategy):
        yield f"served {body['served']} with {outcome}"
    placed = sum(item["source"] == "lvlm" for item in body["items"])
    if placed + lvlm["missing"] != K:
        yield f"the LVLM placed {placed} items, and {lvlm['missing']} are said to be missing"
    found = tuple(lvlm[kind] for kind in REPAIR_KINDS)
    if outcome in ("ok", "repaired") and found != REPAIRS.get(cell.fault, (0, 0, 0)):
        yield f"repaired {dict(zip(REPAIR_KINDS, found, strict=True))}"


def wrong_attempts(cell: Cell, asks: int, rows: Sequence[LedgerRow], retries: float) -> Iterator[str]:
    """Calls that the simulator got, and our counter of retries, beside what the fault calls for.

    Args:
        cell: that they belong to.
        asks: requests that could not be answered without a call.
        rows: of the ledger.
        retries: as we counted them.
    """
    least, most = _attempts(cell, asks)
    if not least <= len(rows) <= most:
        wanted = f"{least}" if least == most else f"{least} to {most}"
        yield f"{len(rows)} attempts for {asks} requests, not {wanted}"
    # A retry that the breaker stops at the last moment is counted and not made.
    if not max(0, len(rows) - asks) <= retries <= (cell.attempts - 1) * asks:
        yield f"{len(rows)} attempts for {asks} requests, and {retries:g} counted as retries"


def wrong_refusals(cell: Cell, refused: int) -> Iterator[str]:
    """Calls that were refused for a field: one in the life of a process, where the fault is to do so."""
    wanted = int(cell.fault == NO_SCHEMA)
    if refused != wanted:
        yield f"a field was refused {refused} times, not {wanted}"


def _attempts(cell: Cell, asks: int) -> tuple[int, int]:
    """The fewest and the most; they differ only where a breaker may be open for a request."""
    most = cell.attempts * asks
    if cell.fault == "401":  # a refused key opens it at once, and for how long is a matter of the clock
        return 1, most
    if cell.fault in (*REFUSALS, *BREAKS) and cell.fault != "429":  # too many requests is no failure
        return min(most, VERDICTS), most
    return most, most


def wrong_repairs(cell: Cell, asked: Iterable[Asked], counted: Mapping[str, float]) -> Iterator[str]:
    """Our counter of repairs, by kind, beside what the answers say.

    Calls that nobody waits for to the end are left out: their answers say less than came.
    """
    if cell.fault in HANGING:
        return
    bodies = [one.reply.body for one in asked]
    # What failed or was refused has nothing that could be repaired.
    told = [b["lvlm"] for b in bodies if b.get("outcome") in ("ok", "repaired", "fallback_answer")]
    for kind in REPAIR_KINDS:
        answered = 0 if cell.fault == "refusal" else sum(each[kind] for each in told)
        if answered != counted.get(kind, 0):
            yield f"{answered} {kind} answered, {counted.get(kind, 0):g} counted"
