"""Makes the reply to a request that was read, whether it came as a single call or in a batch."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import Executor

from service.simulator.accounting import text_tokens
from service.simulator.accounting.ledger import Ledger, LedgerEntry
from service.simulator.answers.malformed import malform
from service.simulator.answers.model import SimulatedModel
from service.simulator.answers.naive_obedience import find_instructions, obey
from service.simulator.answers.prompt_parser import parse_prompt
from service.simulator.contracts import ChatRequest, RejectedError, Reply
from service.simulator.faults import MALFORMED_ANSWERS, Fault, FaultInjector
from service.simulator.vision.picture_cells import BrokenPictureError


class Replier:
    """Asks the model, malforms the answer as a fault asks, cuts it at its cap and enters it into the ledger.

    Args:
        model: model that writes the answers.
        executor: executor with one thread, in which the model runs.
        ledger: ledger that keeps the pictures of requests.
        faults: injector whose script has the switch for obedience to instructions.
    """

    def __init__(
        self, model: SimulatedModel, executor: Executor, ledger: Ledger, faults: FaultInjector
    ) -> None:
        self._model = model
        self._executor = executor
        self._ledger = ledger
        self._faults = faults

    async def reply(
        self, request: ChatRequest, entry: LedgerEntry, request_id: str, fault: Fault | None
    ) -> Reply:
        """Makes the reply.

        Args:
            request: request that the vendor would not refuse.
            entry: entry of the call in the ledger.
            request_id: id that the reply carries.
            fault: fault that the call met; None for a healthy one.

        Raises:
            RejectedError: the pixels of a picture cannot be decoded.
        """
        prompt = parse_prompt(request)
        entry.strategy, entry.kind = request.strategy, prompt.form.value
        entry.input_tokens, entry.image_tokens = request.input_tokens, request.image_tokens
        entry.streamed, entry.pictures = request.stream, len(request.pictures)
        self._ledger.keep_pictures(entry, request.pictures)
        instructions = find_instructions(request) if self._faults.script.obey else ()
        try:
            # The model holds a core for milliseconds; the event loop serves other calls meanwhile.
            loop = asyncio.get_running_loop()
            text = await loop.run_in_executor(self._executor, self._model.answer, request, prompt)
        except BrokenPictureError as error:
            raise RejectedError(400, "invalid_request_error", f"Could not process image: {error}") from error
        if instructions:
            text = obey(instructions, text, prompt)
        # "no_finish_half" is a fault of lookalikes that also cuts the text.
        if fault and (fault.name in MALFORMED_ANSWERS or fault.name == "no_finish_half"):
            text = malform(fault.name, text, prompt)
        pieces = text_tokens.split(text)
        # The cap counts output tokens, as the vendors do.
        cut = request.max_tokens is not None and request.max_tokens < len(pieces)
        # Both faults end in the middle of the list, as if the cap had ended the answer.
        half = bool(fault and fault.name in ("half_label", "endless"))
        reply = Reply(
            request_id,
            int(time.time()),
            request,
            pieces[: request.max_tokens],
            cut or half,
            refused=bool(fault and fault.name == "refusal"),
            batched=entry.batch is not None,
        )
        entry.output_tokens = len(reply.tokens)
        return reply
