"""What can go wrong at a vendor, and the script that says when it does.

Every fault is shaped as the vendors send it. The scripted ones come by model name (so that many can be tried
side by side), or in phases (healthy, a storm of 429, an outage, recovery), or from limits that are enforced.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

REJECTIONS = ("400", "401", "413", "429", "500", "504", "529")
"""Refused with this status before any work. OpenAI says 503 where Anthropic says 529."""

CONNECTIONS = (
    "reset",
    "reset_midstream",
    "black_hole",
    "drip",
    "error_in_stream",
    "truncated",
    "straggler",
    "stall",
)
"""``reset`` cuts the connection before any byte and ``reset_midstream`` in the middle; ``black_hole`` never
answers; ``drip`` sends something now and then, for ever; ``error_in_stream`` follows a status of 200;
``truncated`` ends early as if that were all; ``straggler`` begins late; ``stall`` pauses in the middle."""

ANSWERS = (
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
"""The answer itself is not what was asked for, or not in its form: ``thoughts`` come before a bare list,
``one_based`` gives places instead of labels, and ``mention`` is prose that names labels."""

USAGES = (
    "usage_missing",
    "usage_text",
    "usage_nan",
    "usage_inflated",
    "usage_absurd",
    "usage_negative",
)
"""A good answer, with a usage that is no bill."""

TELLINGS = (
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
"""The answer is told oddly: without the reason why it ended (the whole of it, or half), as one JSON object
though a stream was asked for, as an error that is a mere string in a success, in a list of parts, as a tool's
arguments, between keep-alives that are no JSON, after a byte order mark and with CR line ends."""

NO_SCHEMA = "no_schema"
"""A request with a JSON schema is refused, by the name of its field."""

BATCHES = "batches"
"""Stands among the models for the calls about files and batches: they meet a fault only by this name."""

NAMES = (*REJECTIONS, *CONNECTIONS, *ANSWERS, *TELLINGS, NO_SCHEMA)


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing going wrong.

    Attributes:
        retry_after: seconds, for 429 and 529; None says nothing.
        delay: seconds of ``straggler``, ``stall`` and between the pieces of ``drip``.
    """

    name: str
    retry_after: float | None = None
    delay: float = 3.0


@dataclass(frozen=True, slots=True)
class Phase:
    """A stretch of a script.

    Attributes:
        fault: None while the vendor is healthy.
        rate: share of the calls that it hits.
        calls: it ends after so many that it could hit; None for no such end.
        seconds: it ends after so long; None for no such end.
        models: it hits calls of these alone; empty for all, but not for ``batches``.
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
        phases: in order; after the last one the vendor is healthy.
        repeat: begin again instead.
        by_model: a fault that every call of a model meets, whatever the phase.
        capacity: calls under way at which the next one gets 429; None for no limit.
        requests_per_minute: enforced; None for no limit.
        tokens_per_minute: enforced; None for no limit.
        slow_per_call: seconds added to the time to the first token by every other call under way.
        obey: follow instructions that can be read outside the data.
    """

    phases: tuple[Phase, ...] = ()
    repeat: bool = False
    by_model: Mapping[str, Fault] = field(default_factory=dict)
    capacity: int | None = None
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    slow_per_call: float = 0.0
    obey: bool = False


class Faults:
    """Decides for every call what goes wrong with it."""

    def __init__(self, script: Script | None = None, seed: int = 0) -> None:
        self._seed = seed
        self.play(script or Script())

    def play(self, script: Script) -> None:
        """Begin a script."""
        self.script = script
        self._random = random.Random(self._seed)
        self._number = 0
        self._calls = 0
        self._began = time.monotonic()

    @property
    def phase(self) -> Phase | None:
        """The phase that plays now; None when all are over."""
        self._advance()
        return self.script.phases[self._number] if self._number < len(self.script.phases) else None

    def meet(self, model: str) -> Fault | None:
        """What the next call of a model meets."""
        fault = self.script.by_model.get(model)
        if fault:
            return fault
        phase = self.phase
        if phase is None:
            return None
        if model not in phase.models if phase.models else model == BATCHES:
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
            self._calls, self._began = 0, time.monotonic()
            if self.script.repeat and self._number == len(phases):
                self._number = 0
