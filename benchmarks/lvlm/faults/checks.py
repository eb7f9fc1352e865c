"""Checks the answers, attempts, refused fields and repairs of a cell of the fault matrix.

The checks are pure functions; each yields a sentence for everything that is wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.lab.service_client import Reply
from benchmarks.lab.simulator_control import LedgerRow
from benchmarks.lvlm.event_stream_checks import event_problems
from benchmarks.lvlm.faults.cells import BREAKS, EXPECTED, HANGING, REFUSALS, FaultCell, K
from service.lvlm.calls.circuit_breaker import MIN_ATTEMPTS
from service.simulator.faults import NO_SCHEMA

BROKEN_HALFWAY = ("reset_midstream", "error_in_stream", "error_text", "truncated", "no_finish_half")
"""Faults that break a call off after a part of the ranking."""

REPAIR_KINDS = ("invented", "duplicated", "missing")
"""Kinds of repairs, as the answer and the service's metrics name them."""
REPAIRS: Mapping[str, tuple[int, int, int]] = {
    "duplicate": (0, 1, 1),
    "missing": (0, 0, K // 2),
    "unknown": (1, 0, 1),
    "half_label": (0, 0, K // 2 + 1),  # half of them are named, and the last of those only by half
}
"""Number of items repaired in an answer, by fault, in the order of ``REPAIR_KINDS``; 0 for other faults."""


@dataclass(frozen=True)
class Exchange:
    """One request of a cell and its reply.

    Attributes:
        pool: ids of the items to rank.
        reply: reply of the service.
        with_events: whether an event stream was asked for.
    """

    pool: frozenset[str]
    reply: Reply
    with_events: bool = False


def answer_problems(cell: FaultCell, asked: Iterable[Exchange]) -> Iterator[str]:
    """Finds answers that are not a 200, at the first attempt, with K different items and a right outcome."""
    for one in asked:
        reply = one.reply
        if reply.attempts != 1:
            yield f"the service took the request only when it was sent {reply.attempts} times"
        ids = [item["item_id"] for item in reply.body.get("items", ())]
        if reply.status != 200 or len(ids) != K or len(set(ids)) != K:
            yield reply.error or f"{len(set(ids))} different items among {len(ids)}"
            continue
        if one.with_events:
            yield from event_problems(reply.events)
        if strangers := set(ids) - one.pool:
            yield f"{len(strangers)} items are not of the pool, {min(strangers)} for one"
        yield from _outcome_problems(cell, reply.body, one.with_events)


def _outcome_problems(cell: FaultCell, body: Mapping[str, Any], with_events: bool) -> Iterator[str]:
    outcome, lvlm = body["outcome"], body["lvlm"]
    # Items that an event stream has already sent stay when the attempt breaks off.
    streamed = ("partial",) if with_events and cell.fault in BROKEN_HALFWAY else ()
    if outcome not in EXPECTED[cell.fault][cell.mode] + streamed:
        yield f"outcome {outcome}"
    if body["served"] != ("none" if outcome.startswith("fallback") else cell.strategy):
        yield f"served {body['served']} with {outcome}"
    placed = sum(item["source"] == "lvlm" for item in body["items"])
    if placed + lvlm["missing"] != K:
        yield f"the LVLM placed {placed} items, and {lvlm['missing']} are said to be missing"
    found = tuple(lvlm[kind] for kind in REPAIR_KINDS)
    if outcome in ("ok", "repaired") and found != REPAIRS.get(cell.fault, (0, 0, 0)):
        yield f"repaired {dict(zip(REPAIR_KINDS, found, strict=True))}"


def attempt_problems(cell: FaultCell, asks: int, rows: Sequence[LedgerRow], retries: float) -> Iterator[str]:
    """Compares the simulator's calls and the service's counter of retries with those expected of the fault.

    Args:
        cell: cell of the calls.
        asks: number of requests that could not be answered without a call.
        rows: calls of the cell in the simulator's ledger.
        retries: number of retries that the service counted.
    """
    least, most = _attempts(cell, asks)
    if not least <= len(rows) <= most:
        wanted = f"{least}" if least == most else f"{least} to {most}"
        yield f"{len(rows)} attempts for {asks} requests, not {wanted}"
    # A retry that the breaker stops after it was counted is not made.
    if not max(0, len(rows) - asks) <= retries <= (cell.attempts - 1) * asks:
        yield f"{len(rows)} attempts for {asks} requests, and {retries:g} counted as retries"


def refusal_problems(cell: FaultCell, refused: int) -> Iterator[str]:
    """Checks that a field was refused once in the life of a process if that is the fault, else never."""
    wanted = int(cell.fault == NO_SCHEMA)
    if refused != wanted:
        yield f"a field was refused {refused} times, not {wanted}"


def _attempts(cell: FaultCell, asks: int) -> tuple[int, int]:
    """Returns the smallest and largest number of calls, which differ only if a circuit breaker may open."""
    most = cell.attempts * asks
    if cell.fault == "401":  # a refused key opens the breaker at once, for a time
        return 1, most
    if cell.fault in (*REFUSALS, *BREAKS) and cell.fault != "429":  # the breaker does not count a 429
        return min(most, MIN_ATTEMPTS), most
    return most, most


def repair_problems(
    cell: FaultCell, asked: Iterable[Exchange], counted: Mapping[str, float]
) -> Iterator[str]:
    """Compares the service's counter of repairs, by kind, with the numbers in the answers.

    Faults that hang are left out: the call goes on after its answer, and may be repaired more.
    """
    if cell.fault in HANGING:
        return
    bodies = [one.reply.body for one in asked]
    # Only an answer that came can be repaired.
    usable = [b["lvlm"] for b in bodies if b.get("outcome") in ("ok", "repaired", "fallback_answer")]
    for kind in REPAIR_KINDS:
        answered = 0 if cell.fault == "refusal" else sum(each[kind] for each in usable)
        if answered != counted.get(kind, 0):
            yield f"{answered} {kind} answered, {counted.get(kind, 0):g} counted"
