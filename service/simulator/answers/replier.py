"""Makes the reply to a request that has been read, whether it came alone or in a batch."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import Executor

from service.simulator.answers.malformed import bend
from service.simulator.answers.model import Answerer
from service.simulator.answers.naive_obedience import obey, overheard
from service.simulator.answers.prompt_parser import read_question
from service.simulator.books import text_tokens
from service.simulator.books.ledger import Call, Ledger
from service.simulator.contracts import Ask, RejectedError, Reply
from service.simulator.faults import ANSWERS, Fault, Faults
from service.simulator.vision.picture_cells import BrokenPictureError


class Replier:
    """Answers, bends the answer as a fault wants it, cuts it at its cap and enters it into the ledger.

    Args:
        thinker: of one thread, for the answerer.
    """

    def __init__(self, answerer: Answerer, thinker: Executor, ledger: Ledger, faults: Faults) -> None:
        self._answerer = answerer
        self._thinker = thinker
        self._ledger = ledger
        self._faults = faults

    async def reply(self, ask: Ask, call: Call, request_id: str, fault: Fault | None) -> Reply:
        """Make the reply.

        Args:
            ask: that the vendor would not refuse.
            call: the request's entry in the ledger.
            request_id: that the reply carries.
            fault: that the request met.

        Raises:
            RejectedError: a picture is broken behind its header.
        """
        question = read_question(ask)
        call.strategy, call.kind = ask.strategy, question.form.value
        call.input_tokens, call.image_tokens = ask.input_tokens, ask.image_tokens
        call.streamed, call.pictures = ask.stream, len(ask.pictures)
        self._ledger.keep(call, ask.pictures)
        orders = overheard(ask) if self._faults.script.obey else ()
        try:
            loop = asyncio.get_running_loop()
            text = await loop.run_in_executor(self._thinker, self._answerer.answer, ask, question)
        except BrokenPictureError as error:
            raise RejectedError(400, "invalid_request_error", f"Could not process image: {error}") from error
        if orders:
            text = obey(orders, text, question)
        if fault and (fault.name in ANSWERS or fault.name == "no_finish_half"):
            text = bend(fault.name, text, question)
        pieces = text_tokens.split(text)
        cut = ask.max_tokens is not None and ask.max_tokens < len(pieces)
        half = bool(fault and fault.name in ("half_label", "endless"))
        reply = Reply(
            request_id,
            int(time.time()),
            ask,
            pieces[: ask.max_tokens],
            cut or half,
            refused=bool(fault and fault.name == "refusal"),
            batched=call.batch is not None,
        )
        call.output_tokens = len(reply.tokens)
        return reply
