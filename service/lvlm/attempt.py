"""One attempt at a provider: what has arrived of it so far, and how it ended."""

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
    """How an attempt, or a call made of attempts, ended."""

    FINISHED = "finished"
    DEADLINE = "deadline"
    PROVIDER = "provider"
    LIMIT = "limit"
    BUDGET = "budget"


class Attempt:
    """What is known so far about one attempt.

    Args:
        provider: configured name of the provider.
        call: what to ask.
        hedge: whether it is made beside one that is slow to begin.

    Attributes:
        ending: how it ended; None while it runs, and for one that its caller cancelled.
        failure: why it failed; with ``Ending.PROVIDER`` alone.
        retry_after: seconds that the provider asked to wait after the failure.
        finish: the provider's last event; None for an answer that was cut.
        usage: tokens as the provider told them last; None before.
        first_text: seconds until the first piece of the answer.
        heard: whether the provider has sent anything but its response's head, if only a sign of life.
        begun: whether it was made; one that is cancelled before is not, and costs nothing.
        source: the model that answers, as far as the provider has said it.
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
        self.heard = False
        self.begun = False
        self.source: Source | None = None
        # Whether usage came after the last piece of text, and so is of the whole answer: see billed.
        self._usage_is_last = False
        self._pieces: list[str] = []
        self._began = time.perf_counter()

    def take(self, event: Event) -> None:
        """Adds what the provider sent next."""
        # A response's head is no word from the model: a server may send it and then nothing.
        self.heard = self.heard or not isinstance(event, Source)
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
        """Ends it, now that the provider sends no more; without a finish the answer was truncated."""
        if self.finish is None:
            self.fail(FailureKind.TRUNCATED)
        else:
            self.ending = Ending.FINISHED

    def cut(self) -> None:
        """Ends it at its deadline; an answer whose text is complete by then has come in time."""
        self.ending = Ending.FINISHED if self.complete else Ending.DEADLINE

    def fail(self, kind: FailureKind, retry_after: float | None = None) -> None:
        """Ends it with a failure, which changes nothing after a complete answer."""
        if self.complete:
            self.ending = Ending.FINISHED
        else:
            self.ending, self.failure, self.retry_after = Ending.PROVIDER, kind, retry_after

    @property
    def text(self) -> str:
        """Everything that has arrived of the answer."""
        return "".join(self._pieces)

    @property
    def seconds(self) -> float:
        """Seconds since it began."""
        return time.perf_counter() - self._began

    @property
    def answering(self) -> bool:
        """Whether a piece of the answer is there."""
        return bool(self._pieces)

    @property
    def started(self) -> bool:
        """Whether the model began to answer."""
        return bool(self._pieces) or self.usage is not None

    @property
    def complete(self) -> bool:
        """Whether the text alone shows that the answer is there to its end."""
        # For servers that end a stream without a finish reason, or never end it.
        return bool(self._pieces) and self.call.complete is not None and self.call.complete(self.text)

    @property
    def billed(self) -> bool:
        """Whether the usage is of the whole answer: some vendors also tell what it is at the beginning."""
        # Anthropic tells the input's usage in message_start, and the output's in message_delta at the end.
        ended = self.finish is not None or (self.ending is Ending.FINISHED and self._usage_is_last)
        return self.usage is not None and ended

    @property
    def reason(self) -> FinishReason | None:
        """Why the answer ended: as the provider said, else ``STOP`` for one whose text is complete."""
        if self.finish is not None:
            return self.finish.reason
        return FinishReason.STOP if self.ending is Ending.FINISHED else None

    @property
    def responder(self) -> Responder:
        """The model that was asked, with what its server said of itself."""
        return Responder(self.provider, self.call.model, self.simulated, self.blind)

    @property
    def simulated(self) -> bool:
        """Whether the simulator said that it answers."""
        return any(said is not None and said.simulated for said in (self.finish, self.source))

    @property
    def blind(self) -> bool:
        """Whether the server was sent no pictures, since it takes none."""
        return self.source is not None and self.source.blind

    @property
    def sent(self) -> Call:
        """The call as it was made."""
        return self.call.text_only if self.blind else self.call

    @property
    def outcome(self) -> str:
        """The metric label: ``ok``, ``deadline``, ``cancelled`` or the kind of failure."""
        if self.failure:
            return self.failure.value
        return {Ending.FINISHED: "ok", Ending.DEADLINE: "deadline"}.get(
            self.ending or Ending.LIMIT, "cancelled"
        )
