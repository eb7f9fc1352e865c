"""What must be true of a cell of the fault matrix: its answers, attempts, repairs and books. Pure.

Each check yields a sentence for everything that is wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.client import Reply
from benchmarks.telling import wrong_telling
from service.lvlm.breaker import MIN_ATTEMPTS
from service.simulator.faults import NO_SCHEMA, USAGES

WIRES = {"openai": "gpt-4o", "anthropic": "claude-haiku-4-5"}
MODES = ("stream", "plain")
POOL, K = 30, 10
ATTEMPTS = 3
"""At most for one answer, the first included."""
DEADLINE, HANGING_DEADLINE = 2.0, 0.8
"""Seconds for an answer; less where the provider hangs, so that the matrix ends."""
RETRY_AFTER = 0.1
"""Seconds that a provider that refuses asks us to wait."""
DELAY = 2.5
"""Seconds of stragglers and stalls: past the deadline, within the call."""
DRIP_DELAY = 0.1
"""Seconds between the pieces of a drip: some come before the deadline, and they go on after it."""

HEALTHY = "healthy"
DEADLINE_STREAM = {"stream": ("partial",), "plain": ("fallback_deadline",)}

EXPECTED: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    name: outcomes if isinstance(outcomes, dict) else dict.fromkeys(MODES, outcomes)
    for names, outcomes in (
        ((HEALTHY, "prose", "fence", "lowercase", "titles", "thoughts"), ("ok",)),
        # A good answer that is told oddly, and a field that is refused by its name: no matter.
        (("no_finish", "object", "parts", "tool_call", "keepalive", "bom", *USAGES, NO_SCHEMA), ("ok",)),
        # Refused or broken: tried again as far as that makes sense, then the candidate order.
        (("400", "401", "413", "429", "500", "504", "529"), ("fallback_provider",)),
        (("reset", "reset_midstream", "error_in_stream", "error_text"), ("fallback_provider",)),
        (("truncated", "no_finish_half"), ("fallback_provider",)),
        (("black_hole", "straggler"), ("fallback_deadline",)),
        # What had arrived of a stream at the deadline is kept; a plain answer has no half.
        (("drip", "stall", "endless"), DEADLINE_STREAM),
        (("refusal", "empty", "no_json", "mention"), ("fallback_answer",)),
        (("duplicate", "missing", "unknown", "half_label"), ("repaired",)),
        # A whole ranking in a form that was not asked for.
        (("arrow", "numbered", "single_quotes", "objects", "one_based"), ("repaired",)),
    )
    for name in names
}
"""Fault -> mode -> the outcomes that are right."""

HANGING = ("black_hole", "drip", "straggler", "stall", "endless")
REFUSALS = ("429", "500", "504", "529")
"""Come with a Retry-After, and are worth another attempt."""
BREAKS = ("reset", "reset_midstream", "error_in_stream", "error_text", "truncated", "no_finish_half")
"""Are worth another attempt at once."""

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

BOOKS = ("input", "output", "cached_input", "image")
_BILLED = {
    "input": "billed_input_tokens",
    "output": "billed_output_tokens",
    "cached_input": "cached_input_tokens",
    "image": "image_tokens",
}

Row = Mapping[str, Any]
"""A call in the simulator's ledger."""


@dataclass(frozen=True)
class Cell:
    """One fault as one strategy meets it on one wire in one mode; each has a model name of its own."""

    fault: str
    strategy: str
    wire: str
    mode: str

    @property
    def model(self) -> str:
        """A deployment of the wire's model, so that it has that model's price."""
        return f"{WIRES[self.wire]}@{self.fault}-{self.strategy}-{self.mode}"

    @property
    def deadline(self) -> float:
        """Seconds."""
        return HANGING_DEADLINE if self.fault in HANGING else DEADLINE

    @property
    def script(self) -> dict[str, str | float]:
        """What the simulator is told to do to the model."""
        delay = DRIP_DELAY if self.fault == "drip" else DELAY
        return {"fault": self.fault, "retry_after": RETRY_AFTER, "delay": delay}

    @property
    def attempts(self) -> int:
        """That one answer takes while the breaker is closed."""
        if self.fault in REFUSALS:
            # Anthropic's Retry-After is in whole seconds, of which the deadline holds one.
            return ATTEMPTS if self.wire == "openai" else 2
        return ATTEMPTS if self.fault in BREAKS else 1


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


@dataclass(frozen=True)
class Books:
    """What calls took, as one side has it.

    Attributes:
        tokens: by kind: input, output, cached_input and image.
        dollars: US dollars.
    """

    calls: float
    tokens: Mapping[str, float]
    dollars: float

    @classmethod
    def of(cls, rows: Iterable[Row]) -> Books:
        """The simulator's books of some of its calls."""
        rows = list(rows)
        billed = [row for row in rows if row["billed_input_tokens"]]
        tokens = {kind: float(sum(row[name] for row in billed)) for kind, name in _BILLED.items()}
        return cls(float(len(rows)), tokens, sum(row["cost_usd"] for row in rows))

    def __add__(self, other: Books) -> Books:
        tokens = {kind: self.tokens[kind] + other.tokens[kind] for kind in BOOKS}
        return Books(self.calls + other.calls, tokens, self.dollars + other.dollars)


NOTHING = Books(0.0, dict.fromkeys(BOOKS, 0.0), 0.0)


def refused_field(row: Row) -> bool:
    """Whether a call was refused for a field that is then left out, which is no attempt of its own."""
    return bool(row["fault"] == NO_SCHEMA and row["outcome"] == "rejected")


def cut(rows: Iterable[Row]) -> list[Row]:
    """Calls that are billed although their usage never went out."""
    return [row for row in rows if row["billed_input_tokens"] and not row["usage_sent"]]


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


def wrong_attempts(cell: Cell, asks: int, rows: Sequence[Row], retries: float) -> Iterator[str]:
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
        return min(most, MIN_ATTEMPTS), most
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


def wrong_books(ours: Books, estimated: Mapping[str, float], rows: Sequence[Row]) -> Iterator[str]:
    """Our books of a cell beside the simulator's: equal to the token wherever usage arrived.

    Args:
        ours: all of it.
        estimated: our tokens by kind that nobody told us.
        rows: of the ledger.
    """
    if ours.calls != len(rows):
        yield f"we count {ours.calls:g} calls, the simulator {len(rows)}"
    untold = cut(rows)
    if bool(untold) != any(estimated.values()):
        yield f"usage did not arrive for {len(untold)} calls, and we estimate {dict(estimated)}"
    told = Books.of(row for row in rows if row["usage_sent"])
    ours_told = {kind: ours.tokens[kind] - estimated.get(kind, 0.0) for kind in BOOKS}
    if ours_told != told.tokens:
        yield f"told tokens are {ours_told} in our books, {dict(told.tokens)} in the simulator's"
    if not untold and abs(ours.dollars - told.dollars) > 1e-9:
        yield f"US dollars are {ours.dollars:.9f} in our books, {told.dollars:.9f} in the simulator's"
