"""One attempt at a provider: the events that have arrived so far, and how it ended."""

from __future__ import annotations

import time
from enum import StrEnum

from service.lvlm.contracts import Responder
from service.lvlm.providers.base import (
    Call,
    Event,
    FailureKind,
    Finish,
    FinishReason,
    Source,
    TextDelta,
    Usage,
)


class Ending(StrEnum):
    """How an attempt, or a call made of attempts, ended.

    ``deadline``: it was cut when its time was over. ``provider``: the provider failed, or is not called since
    it kept failing. ``limit``: no permit or no turn of the quota per minute came in time. ``budget``: the
    dollars of the hour or day are spent.
    """

    FINISHED = "finished"
    DEADLINE = "deadline"
    PROVIDER = "provider"
    LIMIT = "limit"
    BUDGET = "budget"


class Attempt:
    """One request to a provider, with what has arrived of its answer.

    Args:
        provider: configured name of the provider.
        call: call that the attempt is made for.
        hedge: whether it is made beside an attempt that is slow to begin.

    Attributes:
        provider: configured name of the provider.
        call: call that the attempt is made for.
        hedge: whether it is made beside an attempt that is slow to begin.
        ending: how it ended; None while it runs, and for one that was cancelled.
        failure: kind of failure, if the ending is ``provider``; None otherwise.
        retry_after: seconds that the provider asked to wait after the failure; None if it did not say.
        finish: the provider's last event; None for an answer without a finish reason.
        usage: tokens as the provider reported them last; None before any report.
        first_text: seconds from the attempt's begin until its first text; None before.
        event_received: whether any event but the response's head has come, if only a sign of life.
        begun: whether a request was sent; an attempt that is cancelled before that costs nothing.
        source: the provider's first event, with the model that answers; None before it.
    """

    def __init__(self, provider: str, call: Call, *, hedge: bool = False) -> None:
        self.provider = provider
        self.hedge = hedge
        self.call = call
        self.ending: Ending | None = None
        self.failure: FailureKind | None = None
        self.retry_after: float | None = None
        self.finish: Finish | None = None
        self.usage: Usage | None = None
        self.first_text: float | None = None
        self.event_received = False
        self.begun = False
        self.source: Source | None = None
        # Whether usage came after the last piece of text, and so is of the whole answer: see billed.
        self._usage_is_last = False
        self._pieces: list[str] = []
        self._began = time.perf_counter()

    def take(self, event: Event) -> None:
        """Adds the next event."""
        # The head of a response is not counted: a server may send it and then nothing.
        self.event_received = self.event_received or not isinstance(event, Source)
        match event:
            case TextDelta(text):
                if self.first_text is None:
                    self.first_text = self.seconds
                self._pieces.append(text)
                self._usage_is_last = False
            case Usage():
                self.usage = event
                self._usage_is_last = True
            case Source():
                self.source = event
            case Finish():
                self.finish = event

    def end(self) -> None:
        """Ends the attempt after the last event; without a finish reason the answer was truncated."""
        if self.finish is None:
            self.fail(FailureKind.TRUNCATED)
        else:
            self.ending = Ending.FINISHED

    def cut(self) -> None:
        """Ends the attempt at its deadline; an answer whose text is complete by then counts as finished."""
        self.ending = Ending.FINISHED if self.complete else Ending.DEADLINE

    def fail(self, kind: FailureKind, retry_after: float | None = None) -> None:
        """Ends the attempt with a failure; an answer whose text is complete by then counts as finished.

        Args:
            kind: kind of failure.
            retry_after: seconds that the provider asked to wait; None if it did not say.
        """
        if self.complete:
            self.ending = Ending.FINISHED
        else:
            self.ending, self.failure, self.retry_after = Ending.PROVIDER, kind, retry_after

    @property
    def text(self) -> str:
        """The text of the answer that has arrived."""
        return "".join(self._pieces)

    @property
    def seconds(self) -> float:
        """Seconds since the attempt was created."""
        return time.perf_counter() - self._began

    @property
    def answering(self) -> bool:
        """Whether any text of the answer has arrived."""
        return bool(self._pieces)

    @property
    def started(self) -> bool:
        """Whether the model began to work, by any text or any report of usage."""
        return bool(self._pieces) or self.usage is not None

    @property
    def complete(self) -> bool:
        """Whether the text alone shows that the answer is complete.

        It is needed for servers that end a stream without a finish reason, or never end it.
        """
        return bool(self._pieces) and self.call.complete is not None and self.call.complete(self.text)

    @property
    def billed(self) -> bool:
        """Whether the reported usage is of the whole answer."""
        # Anthropic reports the input's tokens in message_start, and the output's at the end, in
        # message_delta.
        ended = self.finish is not None or (self.ending is Ending.FINISHED and self._usage_is_last)
        return self.usage is not None and ended

    @property
    def reason(self) -> FinishReason | None:
        """Why the answer ended: the provider's reason, or ``STOP`` for a complete text; None for neither."""
        if self.finish is not None:
            return self.finish.reason
        return FinishReason.STOP if self.ending is Ending.FINISHED else None

    @property
    def responder(self) -> Responder:
        """The model that was asked, with what is known of the server behind it."""
        return Responder(self.provider, self.call.model, self.simulated, self.blind)

    @property
    def simulated(self) -> bool:
        """Whether an event says that the simulator answers."""
        return any(event is not None and event.simulated for event in (self.finish, self.source))

    @property
    def blind(self) -> bool:
        """Whether the pictures were left out, since the server accepts none."""
        return self.source is not None and self.source.blind

    @property
    def sent(self) -> Call:
        """The call as it was sent: without pictures if the server accepts none."""
        return self.call.text_only if self.blind else self.call

    @property
    def outcome(self) -> str:
        """The metric label: ``ok``, ``deadline``, ``cancelled`` or the kind of failure."""
        if self.failure:
            return self.failure.value
        return {Ending.FINISHED: "ok", Ending.DEADLINE: "deadline"}.get(
            self.ending or Ending.LIMIT, "cancelled"
        )
