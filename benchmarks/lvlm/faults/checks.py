"""Checks the answers, attempts, refused fields and repairs of a cell of the fault matrix.

The checks are pure; each yields a sentence for everything that is wrong.
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
"""Faults that break a call off when a part of the ranking has come."""

REPAIR_KINDS = ("invented", "duplicated", "missing")
REPAIRS: Mapping[str, tuple[int, int, int]] = {
    "duplicate": (0, 1, 1),
    "missing": (0, 0, K // 2),
    "unknown": (1, 0, 1),
    "half_label": (0, 0, K // 2 + 1),  # half of them are named, and the last of those only by half
}
"""Fault -> number of items repaired in an answer, in the order of ``REPAIR_KINDS``; 0 for other faults."""


@dataclass(frozen=True)
class Exchange:
    """One request of a cell and its reply.

    Attributes:
        pool: item ids that were to be ranked.
        reply: what the service answered.
        with_events: whether an event stream was asked for.
    """

    pool: frozenset[str]
    reply: Reply
    with_events: bool = False


def answer_problems(cell: FaultCell, asked: Iterable[Exchange]) -> Iterator[str]:
    """Finds answers that are not, at once, a 200 with K different items of the pool and the right outcome."""
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
    # What an event stream has said stands when the attempt that it is from breaks off.
    told = ("partial",) if with_events and cell.fault in BROKEN_HALFWAY else ()
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


def attempt_problems(cell: FaultCell, asks: int, rows: Sequence[LedgerRow], retries: float) -> Iterator[str]:
    """Compares the simulator's calls and the service's counter of retries with what the fault calls for.

    Args:
        cell: cell that they belong to.
        asks: number of requests that could not be answered without a call.
        rows: the cell's calls in the simulator's ledger.
        retries: retries as the service counted them.
    """
    least, most = _attempts(cell, asks)
    if not least <= len(rows) <= most:
        wanted = f"{least}" if least == most else f"{least} to {most}"
        yield f"{len(rows)} attempts for {asks} requests, not {wanted}"
    # A retry that the breaker stops at the last moment is counted and not made.
    if not max(0, len(rows) - asks) <= retries <= (cell.attempts - 1) * asks:
        yield f"{len(rows)} attempts for {asks} requests, and {retries:g} counted as retries"


def refusal_problems(cell: FaultCell, refused: int) -> Iterator[str]:
    """Checks that a field was refused once in the life of a process where that is the fault, else never."""
    wanted = int(cell.fault == NO_SCHEMA)
    if refused != wanted:
        yield f"a field was refused {refused} times, not {wanted}"


def _attempts(cell: FaultCell, asks: int) -> tuple[int, int]:
    """The fewest and the most calls; they differ only where a circuit breaker may be open for a request."""
    most = cell.attempts * asks
    if cell.fault == "401":  # a refused key opens it at once, and for how long is a matter of the clock
        return 1, most
    if cell.fault in (*REFUSALS, *BREAKS) and cell.fault != "429":  # too many requests is no failure
        return min(most, MIN_ATTEMPTS), most
    return most, most


def repair_problems(
    cell: FaultCell, asked: Iterable[Exchange], counted: Mapping[str, float]
) -> Iterator[str]:
    """Compares the service's counter of repairs, by kind, with what the answers say.

    Faults that hang are left out: the call goes on past its answer, which says less than came.
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
