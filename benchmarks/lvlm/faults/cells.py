"""Defines the cells of the fault matrix, and for each fault the outcome that is right and the attempts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from service.simulator.faults import NO_SCHEMA, USAGES

WIRES = {"openai": "gpt-4o", "anthropic": "claude-haiku-4-5"}
"""Wire format -> the model whose price its cells have."""
MODES = ("stream", "plain")
"""How the service asks the provider."""
POOL_SIZE, K = 30, 10
"""Candidates of a request, and items of its answer."""
ATTEMPTS = 3
"""Calls for one answer at most, the first included (``MSR_LVLM_ATTEMPTS``)."""
DEADLINE, HANGING_DEADLINE = 2.0, 0.8
"""Seconds for an answer; less where the provider hangs, so that the matrix ends."""
RETRY_AFTER = 0.1
"""Seconds of the ``Retry-After`` of a refusal."""
DELAY = 2.5
"""Seconds of stragglers and stalls: past the deadline, but within the time of a call."""
DRIP_DELAY = 0.1
"""Seconds between the pieces of a drip: some come before the deadline, and they go on after it."""

HEALTHY = "healthy"
"""The name of no fault."""
DEADLINE_STREAM = {"stream": ("partial",), "plain": ("fallback_deadline",)}
"""Outcomes where a part of the ranking has come by the deadline, by mode."""

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
"""Faults whose calls go on past the deadline."""
REFUSALS = ("429", "500", "504", "529")
"""Faults that come with a ``Retry-After`` and are tried again after it."""
BREAKS = ("reset", "reset_midstream", "error_in_stream", "error_text", "truncated", "no_finish_half")
"""Faults that are tried again at once."""


@dataclass(frozen=True)
class FaultCell:
    """One fault as one strategy meets it on one wire format in one mode.

    Attributes:
        fault: name of the simulator's fault, or ``HEALTHY``.
        strategy: name of the strategy.
        wire: ``openai`` or ``anthropic``, which is also the provider's name.
        mode: ``stream`` or ``plain``.
    """

    fault: str
    strategy: str
    wire: str
    mode: str

    @property
    def model(self) -> str:
        """The cell's own model name, by which faults, metrics and ledger are told apart.

        A name ``MODEL@deployment`` has the price of ``MODEL``.
        """
        return f"{WIRES[self.wire]}@{self.fault}-{self.strategy}-{self.mode}"

    @property
    def deadline(self) -> float:
        """Seconds that the request allows."""
        return HANGING_DEADLINE if self.fault in HANGING else DEADLINE

    @property
    def script(self) -> dict[str, str | float]:
        """The fault as the simulator's script has it for the cell's model."""
        delay = DRIP_DELAY if self.fault == "drip" else DELAY
        return {"fault": self.fault, "retry_after": RETRY_AFTER, "delay": delay}

    @property
    def attempts(self) -> int:
        """Calls that one answer takes while the circuit breaker is closed."""
        if self.fault in REFUSALS:
            # Anthropic's Retry-After is in whole seconds, of which the deadline holds one.
            return ATTEMPTS if self.wire == "openai" else 2
        return ATTEMPTS if self.fault in BREAKS else 1
