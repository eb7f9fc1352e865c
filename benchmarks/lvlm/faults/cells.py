"""The cells of the fault matrix: fault, strategy, wire format and mode, and the outcome that is right."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

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
