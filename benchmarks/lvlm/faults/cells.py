"""Defines the cells of the fault matrix, and for each fault the expected outcomes and attempts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from service.simulator.faults import NO_SCHEMA, USAGES

WIRES = {"openai": "gpt-4o", "anthropic": "claude-haiku-4-5"}
"""Model whose price the cells have, by wire format."""
MODES = ("stream", "plain")
"""Whether the service asks the provider for a stream or for a plain answer."""
POOL_SIZE, K = 30, 10
"""Number of candidates of a request, and of items in its answer."""
ATTEMPTS = 3
"""Number of calls for one answer at most, the first included (``MSR_LVLM_ATTEMPTS``)."""
DEADLINE, HANGING_DEADLINE = 2.0, 0.8
"""Seconds for an answer; less for faults that hang, which always use up their deadline."""
RETRY_AFTER = 0.1
"""Seconds of the ``Retry-After`` of a refusal."""
DELAY = 2.5
"""Seconds by which stragglers and stalls are late: past the deadline, but within the timeout of a call."""
DRIP_DELAY = 0.1
"""Seconds between the pieces of a drip, of which some come before the deadline and some after it."""

HEALTHY = "healthy"
"""Name of a cell without a fault."""
DEADLINE_STREAM = {"stream": ("partial",), "plain": ("fallback_deadline",)}
"""Expected outcomes, by mode, if a part of the ranking has come by the deadline."""

EXPECTED: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    name: outcomes if isinstance(outcomes, dict) else dict.fromkeys(MODES, outcomes)
    for names, outcomes in (
        ((HEALTHY, "prose", "fence", "lowercase", "titles", "thoughts"), ("ok",)),
        # A good answer in an unusual form, or a field that is refused by its name, changes nothing.
        (("no_finish", "object", "parts", "tool_call", "keepalive", "bom", *USAGES, NO_SCHEMA), ("ok",)),
        # Refused or broken: tried again as far as that makes sense, then the candidate order.
        (("400", "401", "413", "429", "500", "504", "529"), ("fallback_provider",)),
        (("reset", "reset_midstream", "error_in_stream", "error_text"), ("fallback_provider",)),
        (("truncated", "no_finish_half"), ("fallback_provider",)),
        (("black_hole", "straggler"), ("fallback_deadline",)),
        # What has arrived of a stream by the deadline is kept; a plain answer arrives whole or not at all.
        (("drip", "stall", "endless"), DEADLINE_STREAM),
        (("refusal", "empty", "no_json", "mention"), ("fallback_answer",)),
        (("duplicate", "missing", "unknown", "half_label"), ("repaired",)),
        # A whole ranking in a form that was not asked for.
        (("arrow", "numbered", "single_quotes", "objects", "one_based"), ("repaired",)),
    )
    for name in names
}
"""Expected outcomes, by fault and mode."""

HANGING = ("black_hole", "drip", "straggler", "stall", "endless")
"""Faults whose calls go on past the deadline."""
REFUSALS = ("429", "500", "504", "529")
"""Faults with a ``Retry-After``, after which the service makes another attempt."""
BREAKS = ("reset", "reset_midstream", "error_in_stream", "error_text", "truncated", "no_finish_half")
"""Faults after which the service makes another attempt at once."""


@dataclass(frozen=True)
class FaultCell:
    """One fault, tried with one strategy, wire format and mode.

    Attributes:
        fault: name of the simulator's fault, or ``HEALTHY``.
        strategy: name of the strategy.
        wire: wire format, ``openai`` or ``anthropic``, which is also the provider's name.
        mode: one of ``MODES``.
    """

    fault: str
    strategy: str
    wire: str
    mode: str

    @property
    def model(self) -> str:
        """Name of the cell's own model, which identifies the cell in faults, metrics and ledger.

        A name ``MODEL@deployment`` has the price of ``MODEL``.
        """
        return f"{WIRES[self.wire]}@{self.fault}-{self.strategy}-{self.mode}"

    @property
    def deadline(self) -> float:
        """Deadline of the request in seconds."""
        return HANGING_DEADLINE if self.fault in HANGING else DEADLINE

    @property
    def script(self) -> dict[str, str | float]:
        """Entry of the cell's model in the simulator's script of faults."""
        delay = DRIP_DELAY if self.fault == "drip" else DELAY
        return {"fault": self.fault, "retry_after": RETRY_AFTER, "delay": delay}

    @property
    def attempts(self) -> int:
        """Number of calls that one answer takes while the circuit breaker is closed."""
        if self.fault in REFUSALS:
            # Anthropic's Retry-After is in whole seconds, and the deadline of 2 s leaves time for one.
            return ATTEMPTS if self.wire == "openai" else 2
        return ATTEMPTS if self.fault in BREAKS else 1
