"""One request in the LVLM stage: builds its cache key and its call, and turns the answer into a result."""

from __future__ import annotations

import hashlib
import json
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

from service.catalogue.bundle import Catalogue
from service.lvlm.answer.entries import Candidates
from service.lvlm.answer.parser import is_complete, read_answer
from service.lvlm.answer.streamed_prefix import StreamedPrefix
from service.lvlm.answer_cache import answer_key
from service.lvlm.bill import Bill
from service.lvlm.call_completion import Completion
from service.lvlm.contracts import (
    HISTORY_SHOWN,
    CacheResult,
    JudgedAnswer,
    Outcome,
    ParsedAnswer,
    Shown,
    StageOptions,
    StageRequest,
    StageResult,
)
from service.lvlm.prompt import history_picture, prompts
from service.lvlm.prompt.history_view import view_history, without_pictures
from service.lvlm.prompt.item_pictures import HistoryPictures, Pictures
from service.lvlm.provider_attempt import Ending
from service.lvlm.providers.base import Call, FinishReason, Prompt
from service.lvlm.stage_warnings import model_warnings, view_warnings
from service.strategies import Task

MARGIN = 0.02
"""Seconds before the request's deadline at which its call is cut, to read the answer or to fall back."""


class RankingCall:
    """The state of one request from its arrival in the stage to its result.

    Args:
        request: pool to rank, and the deadline.
        catalogue: catalogue whose rows the request names.
        pictures: maker of the pictures of the history's items.
        options: options of the deployment.

    Attributes:
        request: pool to rank, and the deadline.
        catalogue: catalogue whose rows the request names.
        pool: item rows in the order in which the prompt shows them.
        history: item rows that the prompt shows, oldest first.
        captions: captions by item row; empty in the raw view.
        caption_calls: number of background calls begun for missing captions.
        shown: numbers of items that the prompt shows; None before it is built.
        own: whether the call, and so its bill, is this request's own.
        cache: what the answer cache did for the request.
        renews: whether the request was answered by a stale answer, and its call renews it.
        streamed: first items of the answer, which the request was shown; None without streaming.
        seconds: seconds per step.

    Raises:
        ValueError: the pool is empty or the strategy asks no LVLM, both errors of the caller.
    """

    def __init__(
        self, request: StageRequest, catalogue: Catalogue, pictures: Pictures, options: StageOptions
    ) -> None:
        self.request = request
        self.pool = shown_pool(request, catalogue)
        self.history = request.history[-HISTORY_SHOWN:]
        self.captions: Mapping[int, str] = {}
        self.caption_calls = 0
        self.shown: Shown | None = None
        self.own = True
        self.cache: CacheResult = "miss" if request.cache == "use" else request.cache
        self.renews = False
        self.streamed: StreamedPrefix | None = None
        self.seconds: dict[str, float] = {}
        self.catalogue = catalogue
        self._pictures = pictures
        self._options = options
        self._candidates: Candidates | None = None
        self._began = time.perf_counter()

    @property
    def top(self) -> int:
        """Number of items that the LVLM is asked for; in the paper's form the whole pool."""
        return len(self.pool) if self.request.form == "paper" else min(self.request.k, len(self.pool))

    @property
    def time_left(self) -> float:
        """Seconds that are left for the call; negative once they are over."""
        return self.request.deadline - (time.perf_counter() - self._began) - MARGIN

    @property
    def candidates(self) -> Candidates:
        """The pool's items as an answer names them; computed when an answer is first read."""
        if self._candidates is None:
            names = prompts.shown_names([self.catalogue.items[row].name for row in self.pool])
            self._candidates = Candidates(names, self.request.form)
        return self._candidates

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Adds the time of the context to a step's seconds."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[step] = self.seconds.get(step, 0.0) + time.perf_counter() - began

    def key(self, provider: str, model: str) -> str:
        """Returns the cache key of a model's answer to this request: a hash of everything that decides it."""
        request, items = self.request, self.catalogue.items
        raw = request.strategy.view == "raw"
        return answer_key(
            {
                "catalogue": self.catalogue.version,
                # A fact that the prompt does not show is None, so that requests which differ only in it share
                # an answer.
                "backbone": request.backbone_version if request.strategy.task is Task.RERANK else None,
                "task": request.strategy.task,
                "view": request.strategy.view,
                "modality": request.modality if raw else None,
                "image_mode": request.image_mode if request.shows_images else None,
                "prompt": prompts.VERSIONS[request.form],
                "montage": history_picture.VERSION if request.shows_images else None,
                "provider": provider,
                "model": model,
                "max_output_tokens": self._options.max_output_tokens,
                "history": [items[row].item_id for row in self.history],
                "images": [items[row].image_sha256 for row in self.history] if request.shows_images else None,
                "captions": [self.captions.get(row) for row in self.history],
                "pool": [items[row].item_id for row in self.pool],
                "top": self.top,
                "explain": request.explain,
            }
        )

    async def build(self, wanted: Callable[[], bool]) -> Call:
        """Builds the call to a provider, with its prompt and pictures.

        Args:
            wanted: function that tells whether a request still waits, asked when a thread is free for the
                pictures.

        Raises:
            TimeoutError: no request waited any more.
        """
        request = self.request
        pictured = HistoryPictures()
        if request.shows_images:
            pictured = await self._pictures.history(self.catalogue, self.history, request.image_mode, wanted)
        prompt, self.shown = self._prompt(pictured)
        # Called only if the server turns out to accept no pictures.
        if pictured.images:
            prompt = replace(prompt, without_images=lambda: self._prompt(None)[0])
        return Call(
            prompt,
            request.model,
            self._options.max_output_tokens,
            stream=self._options.stream,
            context={"strategy": request.strategy.name},
            complete=self._is_complete,
        )

    def _prompt(self, pictured: HistoryPictures | None) -> tuple[Prompt, Shown]:
        """The prompt with these pictures, or with None the one for a server that accepts no pictures."""
        request, items = self.request, self.catalogue.items
        view = view_history(self.catalogue, request, self.history, self.captions, pictured)
        content = prompts.PromptContent(
            task=request.strategy.task,
            form=request.form,
            history=view.entries,
            candidates=tuple(items[row].name for row in self.pool),
            top=self.top,
            explain=request.explain,
            images=pictured.images if pictured else (),
            image_mode=request.image_mode,
        )
        return prompts.ranking_prompt(content), view.shown

    def judge(self, completion: Completion) -> JudgedAnswer:
        """Parses the text of a completion, and judges the outcome."""
        if completion.responder.blind and self.shown:
            self.shown = without_pictures(self.shown, self.history)
        parsed, outcome = self._read(completion)
        return JudgedAnswer(parsed, outcome, self.shown, completion.responder)

    def no_answer(self, outcome: Outcome, shown: Shown | None = None) -> JudgedAnswer:
        """Returns the answer record of a request that got no answer."""
        return JudgedAnswer(self._no_items(), outcome, shown)

    def result(
        self, answer: JudgedAnswer, bill: Bill, price_warning: Callable[[str, str], str | None]
    ) -> StageResult:
        """Makes the result of an answer.

        Args:
            answer: answer of the call; items that the request was shown before stay first.
            bill: bill of the call; left out of the result if the call is not this request's own.
            price_warning: function from provider and model to a warning about its price; None for none.
        """
        prefix_warning = None
        if self.streamed:
            final = self.streamed.final_answer(answer, self.top)
            answer, prefix_warning = final.answer, final.warning
        request, responder, parsed = self.request, answer.responder, answer.parsed
        if not responder.provider:
            responder = replace(responder, provider=request.provider, model=request.model)
        # Answers in the paper's form always explain, and some models do so unasked.
        if parsed.explanation and not request.explain:
            parsed = replace(parsed, explanation=None)
        # A copy: the answer itself may be shared with other requests and with the cache.
        answer = replace(answer, parsed=parsed, responder=responder)
        warnings = list(self._warnings(answer, price_warning(responder.provider, responder.model)))
        return StageResult(
            order=tuple(self.pool[position] for position in parsed.order),
            answer=answer,
            cache=self.cache,
            bill=bill if self.own else Bill(),
            caption_calls=self.caption_calls,
            warnings=(*warnings, prefix_warning) if prefix_warning else tuple(warnings),
            seconds=self.seconds,
        )

    def _read(self, completion: Completion) -> tuple[ParsedAnswer, Outcome]:
        if completion.ending in _NO_ANSWER:
            return self._no_items(), _NO_ANSWER[completion.ending]
        if completion.reason is FinishReason.REFUSAL:
            return self._no_items(), Outcome.FALLBACK_ANSWER
        # A text that is complete by itself counts as whole, even if the deadline cut its stream.
        whole = completion.reason is FinishReason.STOP or self._is_complete(completion.text)
        parsed = read_answer(completion.text, self.candidates, self.top, finished=whole)
        if completion.ending is Ending.DEADLINE and not whole:
            return parsed, Outcome.PARTIAL if parsed.order else Outcome.FALLBACK_DEADLINE
        if not parsed.order:
            return parsed, Outcome.FALLBACK_ANSWER
        return parsed, Outcome.REPAIRED if parsed.repaired else Outcome.OK

    def _is_complete(self, text: str) -> bool:
        return is_complete(text, self.candidates, self.top)

    def _no_items(self) -> ParsedAnswer:
        return ParsedAnswer((), invented=0, duplicated=0, missing=self.top)

    def _warnings(self, answer: JudgedAnswer, price_warning: str | None) -> Iterator[str]:
        responder = answer.responder
        # An answer from the cache, or the simulator's, costs nothing, whatever is known of the price.
        if price_warning and self.own and not responder.simulated:
            yield price_warning
        if answer.outcome.good:
            yield from model_warnings(self.request, responder)
        # Without a history there is nothing to show, and without a prompt nothing was shown.
        if self.history and answer.shown is not None:
            yield from view_warnings(self.request, responder, answer.shown, len(self.history))


def shown_pool(request: StageRequest, catalogue: Catalogue) -> tuple[int, ...]:
    """Returns the item rows of a request's pool in the order in which the prompt shows them.

    For the task ``rerank`` that is the candidate model's order. Otherwise it is a shuffle, seeded by pool and
    history alone.

    Raises:
        ValueError: the pool is empty or the strategy asks no LVLM.
    """
    if not request.pool or request.strategy.task is Task.NONE:
        raise ValueError("the LVLM stage needs candidates and a strategy that asks an LVLM")
    if request.strategy.task is Task.RERANK:
        return request.pool
    # Sorted by item id and shuffled with a seed from the same facts: neither the request's order nor the
    # candidate model's reaches the LVLM, and an equal request gets the same prompt, and so the same cache
    # key.
    items = catalogue.items
    pool = sorted(request.pool, key=lambda row: items[row].item_id)
    history = request.history[-HISTORY_SHOWN:]
    facts = [[items[row].item_id for row in rows] for rows in (pool, history)]
    seed = hashlib.sha256(json.dumps(facts).encode()).digest()
    random.Random(seed).shuffle(pool)
    return tuple(pool)


_NO_ANSWER = {
    Ending.LIMIT: Outcome.FALLBACK_LIMIT,
    Ending.BUDGET: Outcome.FALLBACK_BUDGET,
    Ending.PROVIDER: Outcome.FALLBACK_PROVIDER,
}
