"""The completion: the result of one call through the gateway."""

from __future__ import annotations

from dataclasses import dataclass, field

from service.lvlm.bill import Bill
from service.lvlm.contracts import Responder
from service.lvlm.provider_attempt import Ending
from service.lvlm.providers.base import FailureKind, FinishReason


@dataclass(frozen=True, slots=True)
class Completion:
    """The text of a call's answer, how the call ended, and its bill.

    Attributes:
        ending: how the call ended.
        text: text received, also of a call that was cut; empty if the provider failed.
        reason: why the model's answer ended; None unless it came to an end.
        failure: kind of failure if the ending is ``provider``; None then if the circuit breaker was open.
        responder: model that answered, or was asked last.
        bill: sum of the bills of all attempts, at all models that were asked.
    """

    ending: Ending
    text: str = ""
    reason: FinishReason | None = None
    failure: FailureKind | None = None
    responder: Responder = field(default_factory=Responder)
    bill: Bill = field(default_factory=Bill)
