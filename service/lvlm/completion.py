"""What came of one call through the gateway."""

from __future__ import annotations

from dataclasses import dataclass, field

from service.lvlm.attempt import Ending
from service.lvlm.bill import Bill
from service.lvlm.contracts import Responder
from service.lvlm.providers.base import FailureKind, FinishReason


@dataclass(frozen=True, slots=True)
class Completion:
    """The text of a call, how the call ended and what it took.

    Attributes:
        ending: how it ended.
        text: everything received, also when the call was cut; empty if the provider failed.
        reason: why the model stopped; None unless it came to an end.
        failure: the kind of failure when the ending is ``provider``; None if the circuit breaker was open.
        responder: the model that answered, or was asked last.
        bill: what all attempts together took, over all models asked.
    """

    ending: Ending
    text: str = ""
    reason: FinishReason | None = None
    failure: FailureKind | None = None
    responder: Responder = field(default_factory=Responder)
    bill: Bill = field(default_factory=Bill)
