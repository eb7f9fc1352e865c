"""Lists the faults that the simulator can inject, and decides from a script which call meets which.

Every fault has the form that the vendors send. Faults are chosen by model name (so that many can be tried
side by side), by phase (healthy, a storm of 429, an outage, recovery), or by limits that are enforced.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

REJECTIONS = ("400", "401", "413", "429", "500", "504", "529")
"""Faults that refuse the request with this status before any work. OpenAI's wire sends 503 for 529."""

CONNECTION_FAULTS = (
    "reset",
    "reset_midstream",
    "black_hole",
    "drip",
    "error_in_stream",
    "truncated",
    "straggler",
    "stall",
)
"""Faults of the connection.

``reset`` cuts the connection before any byte and ``reset_midstream`` in the middle; ``black_hole`` never
answers; ``drip`` sends bytes without meaning now and then, without end; ``error_in_stream`` sends an error
after a status of 200; ``truncated`` ends early as if that were all; ``straggler`` begins late; ``stall``
pauses in the middle.
"""

MALFORMED_ANSWERS = (
    "refusal",
    "empty",
    "prose",
    "fence",
    "duplicate",
    "missing",
    "unknown",
    "lowercase",
    "titles",
    "half_label",
    "no_json",
    "endless",
    "thoughts",
    "arrow",
    "numbered",
    "single_quotes",
    "objects",
    "one_based",
    "mention",
)
"""Faults of the answer: it is not what was asked for, or not in its form.

``thoughts`` come before a bare list, ``one_based`` gives positions instead of labels, and ``mention`` is
prose that names labels. ``answers/malformed.py`` has all of them.
"""

USAGES = (
    "usage_missing",
    "usage_text",
    "usage_nan",
    "usage_inflated",
    "usage_absurd",
    "usage_negative",
)
"""Faults that leave the answer intact and report a wrong usage, or none."""

LOOKALIKES = (
    "no_finish",
    "no_finish_half",
    "object",
    "error_text",
    "parts",
    "tool_call",
    "keepalive",
    "bom",
    *USAGES,
)
"""Faults in which the answer is written as servers do that only resemble a vendor.

``no_finish`` and ``no_finish_half`` lack the finish reason (with the whole answer, with half); ``object`` is
one JSON object though a stream was asked for; ``error_text`` is an error that is a mere string, in a success;
``parts`` is a list of parts; ``tool_call`` has the answer in a tool's arguments; ``keepalive`` has
keep-alives between that are no JSON; ``bom`` begins with a byte order mark and ends lines with CR.
"""

NO_SCHEMA = "no_schema"
"""Fault that refuses a request with a JSON schema, and names the field of the schema."""

FILES_AND_BATCHES = "batches"
"""Name that stands among the models for the calls about files and batches, which meet faults by it alone."""

NAMES = (*REJECTIONS, *CONNECTION_FAULTS, *MALFORMED_ANSWERS, *LOOKALIKES, NO_SCHEMA)


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault.

    Attributes:
        name: one of `NAMES`.
        retry_after: seconds of the header ``retry-after``, for rejections; None leaves the header out.
        delay: seconds of ``straggler``, ``stall`` and between the pieces of ``drip``.
    """

    name: str
    retry_after: float | None = None
    delay: float = 3.0


@dataclass(frozen=True, slots=True)
class Phase:
    """One part of a script, until a number of calls or of seconds has passed.

    Attributes:
        fault: fault of the phase; None for a healthy vendor.
        rate: share of the calls that meet it, 0 to 1.
        calls: number of calls, with or without the fault, after which the phase ends; None for no such end.
        seconds: seconds after which the phase ends; None for no such end.
        models: models whose calls can meet it; empty for all, though not for ``batches``.
    """

    fault: Fault | None
    rate: float = 1.0
    calls: int | None = None
    seconds: float | None = None
    models: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Script:
    """Everything that can be set from outside while the simulator runs.

    Attributes:
        phases: phases in order; after the last one the vendor is healthy.
        repeat: whether the phases begin again after the last one.
        by_model: fault that every call of a model meets, whatever the phase.
        capacity: calls in flight at which the next one gets 429; None for no limit.
        requests_per_minute: limit that is enforced, at least 1; None for no limit.
        tokens_per_minute: limit that is enforced, at least 1; None for no limit.
        slow_per_call: seconds added to the time to the first token by every other call in flight.
        obey: whether the model follows instructions that stand outside the data.
    """

    phases: tuple[Phase, ...] = ()
    repeat: bool = False
    by_model: Mapping[str, Fault] = field(default_factory=dict)
    capacity: int | None = None
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    slow_per_call: float = 0.0
    obey: bool = False


class FaultInjector:
    """Decides for every call which fault it meets.

    Args:
        script: script to begin with; None for a healthy vendor.
        seed: seed of the draws in phases with a rate below 1.
    """

    def __init__(self, script: Script | None = None, seed: int = 0) -> None:
        self._seed = seed
        self.play(script or Script())

    def play(self, script: Script) -> None:
        """Begins a script at its first phase."""
        self.script = script
        # The same script and seed hit the same calls.
        self._random = random.Random(self._seed)
        self._number = 0
        self._calls = 0
        self._began = time.monotonic()

    @property
    def phase(self) -> Phase | None:
        """The phase that applies now; None when all are over."""
        self._advance()
        return self.script.phases[self._number] if self._number < len(self.script.phases) else None

    def fault_for(self, model: str) -> Fault | None:
        """Draws the fault of the next call of a model; None for a healthy call."""
        # A fault by model does not count towards a phase.
        fault = self.script.by_model.get(model)
        if fault:
            return fault
        phase = self.phase
        if phase is None:
            return None
        # Calls about batches meet the fault of a phase only if it names them among its models.
        if model not in phase.models if phase.models else model == FILES_AND_BATCHES:
            return None
        self._calls += 1
        return phase.fault if self._random.random() < phase.rate else None

    def _advance(self) -> None:
        phases = self.script.phases
        while self._number < len(phases):
            phase, passed = phases[self._number], time.monotonic() - self._began
            over = (phase.calls is not None and self._calls >= phase.calls) or (
                phase.seconds is not None and passed >= phase.seconds
            )
            if not over:
                return
            self._number += 1
            # Calls and seconds of the next phase count from its beginning.
            self._calls, self._began = 0, time.monotonic()
            if self.script.repeat and self._number == len(phases):
                self._number = 0
