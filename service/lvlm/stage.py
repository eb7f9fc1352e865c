"""The LVLM stage: a history and a pool go in, an LVLM's order comes out in time, or the reason why not."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from service.bundle import Catalogue
from service.lvlm import montage, prompts
from service.lvlm.answer_cache import AnswerCache, StoredAnswer, answer_key
from service.lvlm.answers import Answer, parse_labels, parse_titles
from service.lvlm.captions import Captions
from service.lvlm.contracts import HISTORY_SHOWN, Outcome, Shown, StageRequest, StageResult
from service.lvlm.gateway import Completion, Ending, Gateway
from service.lvlm.pictures import Pictured, Pictures
from service.lvlm.providers.base import Call, FinishReason, Prompt
from service.metrics import Metrics
from service.strategies import Task

__all__ = ["LvlmStage", "Outcome", "Shown", "StageOptions", "StageRequest", "StageResult"]

SIMULATOR = "simulator"

MARGIN = 0.02
"""Seconds between the provider's deadline and the request's: time to read the answer and to fall back."""

LEAST = 0.03
"""Seconds that every request gets, so that a deadline of 0 can still be answered from the cache."""


@dataclass(frozen=True, slots=True)
class StageOptions:
    """What a deployment chooses.

    Attributes:
        stream: ask for server-sent events, so that a deadline finds a prefix of the ranking.
        max_output_tokens: cap on an answer; generous, since models that think bill their thoughts here.
    """

    stream: bool = True
    max_output_tokens: int = 2_048


@dataclass(slots=True)
class _Visit:
    """One request on its way through the stage.

    Attributes:
        pool: rows in the order shown.
        history: rows shown, oldest first.
        captions: row -> caption, in the enhanced view.
    """

    request: StageRequest
    pool: tuple[int, ...]
    history: tuple[int, ...]
    captions: Mapping[int, str] = field(default_factory=dict)
    shown: Shown = field(default_factory=Shown)
    completion: Completion = field(default_factory=lambda: Completion(Ending.DEADLINE))
    seconds: dict[str, float] = field(default_factory=dict)
    began: float = field(default_factory=time.perf_counter)

    @property
    def top(self) -> int:
        """How many items the LVLM is asked for."""
        return len(self.pool) if self.request.form == "paper" else min(self.request.k, len(self.pool))

    @property
    def time_left(self) -> float:
        """Seconds that the provider may take."""
        return self.request.deadline - (time.perf_counter() - self.began) - MARGIN

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Add what happens inside to a step's seconds."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[step] = self.seconds.get(step, 0.0) + time.perf_counter() - began


class LvlmStage:
    """Reranks pools of one catalogue."""

    def __init__(
        self,
        catalogue: Catalogue,
        *,
        gateway: Gateway,
        pictures: Pictures,
        captions: Captions,
        answers: AnswerCache,
        metrics: Metrics,
        options: StageOptions,
    ) -> None:
        self._catalogue = catalogue
        self._gateway = gateway
        self._pictures = pictures
        self._captions = captions
        self._answers = answers
        self._metrics = metrics
        self._options = options
        self._storing: set[asyncio.Task[None]] = set()

    async def rerank(self, request: StageRequest) -> StageResult:
        """Rank the pool, whatever happens, by the request's deadline.

        Raises:
            ValueError: the pool is empty or the strategy asks no LVLM; a fault of the caller.
        """
        visit = _Visit(request, self._shown_pool(request), request.history[-HISTORY_SHOWN:])
        # Not nested: two timeouts that are due in one turn of the loop would cancel twice and lose what the
        # provider's, the smaller one, had kept.
        try:
            async with asyncio.timeout(max(request.deadline, LEAST)):
                key, stored = await self._look_up(visit)
                prompt = None if stored else await self._prompt(visit)
        except TimeoutError:  # the cache or the pictures were slow
            return self._fallback(visit, Outcome.FALLBACK_DEADLINE)
        if stored:
            return self._hit(visit, stored)
        assert prompt is not None
        return await self._ask(visit, key, prompt)

    async def close(self) -> None:
        """Finish writing answers and stop everything that runs in the background."""
        await asyncio.gather(*self._storing)
        await self._captions.close()
        await self._gateway.close()
        self._pictures.close()

    async def _look_up(self, visit: _Visit) -> tuple[str, StoredAnswer | None]:
        request = visit.request
        with visit.timed("cache"):
            if request.strategy.view == "enhanced":
                visit.captions = await self._captions.read(visit.history, request.provider, request.model)
            key = self._key(visit)
            if request.cache != "use":
                return key, None
            return key, await self._answers.get(key, len(visit.pool))

    async def _ask(self, visit: _Visit, key: str, prompt: Prompt) -> StageResult:
        request = visit.request
        if visit.time_left > 0:
            with visit.timed("lvlm"):
                visit.completion = await self._gateway.call(
                    request.provider, self._call(visit, prompt), visit.time_left
                )
        answer, outcome = self._judge(visit)
        if not answer.order:
            return self._fallback(visit, outcome, answer)
        # An answer that the token cap cut off is used, and is not worth keeping.
        complete = outcome.good and visit.completion.reason is FinishReason.STOP
        if complete and request.cache != "off":
            with visit.timed("cache"):
                await self._store(
                    visit, key, StoredAnswer(answer, outcome, visit.shown, visit.completion.simulated)
                )
        return self._result(visit, outcome, answer)

    # --- what is shown ----------------------------------------------------------------------------------

    def _shown_pool(self, request: StageRequest) -> tuple[int, ...]:
        if not request.pool or request.strategy.task is Task.NONE:
            raise ValueError("the LVLM stage needs candidates and a strategy that asks an LVLM")
        if request.strategy.task is Task.RERANK:
            return request.pool
        # Sorted first and seeded by nothing else: neither the request's order nor the candidate model's
        # reaches the LVLM, and the same visit is shown the same pool again.
        items = self._catalogue.items
        pool = sorted(request.pool, key=lambda row: items[row].item_id)
        history = request.history[-HISTORY_SHOWN:]
        facts = [[items[row].item_id for row in rows] for rows in (pool, history)]
        seed = hashlib.sha256(json.dumps(facts).encode()).digest()
        random.Random(seed).shuffle(pool)
        return tuple(pool)

    async def _prompt(self, visit: _Visit) -> Prompt:
        with visit.timed("prompt"):
            return await self._build_prompt(visit)

    async def _build_prompt(self, visit: _Visit) -> Prompt:
        request, items = visit.request, self._catalogue.items
        raw = request.strategy.view == "raw"
        pictured = Pictured()
        if raw and "image" in request.modality:
            pictured = await self._pictures.history(visit.history, request.image_mode)
        titled = not raw or "title" in request.modality
        entries = tuple(
            prompts.Entry(
                title=items[row].name if titled else None,
                caption=visit.captions.get(row),
                cell=pictured.cell(position),
            )
            for position, row in enumerate(visit.history)
        )
        visit.shown = Shown(
            titles=len(entries) if titled else 0,
            images=len(pictured.cells or ()),
            captions=sum(entry.caption is not None for entry in entries),
        )
        return prompts.ranking_prompt(
            prompts.Question(
                task=request.strategy.task,
                form=request.form,
                history=entries,
                candidates=tuple(items[row].name for row in visit.pool),
                top=visit.top,
                explain=request.explain,
                images=pictured.images,
                image_mode=request.image_mode,
            )
        )

    def _call(self, visit: _Visit, prompt: Prompt) -> Call:
        request = visit.request
        return Call(
            prompt,
            request.model,
            self._options.max_output_tokens,
            stream=self._options.stream,
            context={"strategy": request.strategy.name},
        )

    def _key(self, visit: _Visit) -> str:
        """Everything that changes the answer."""
        request, items = visit.request, self._catalogue.items
        raw = request.strategy.view == "raw"
        shows_images = raw and "image" in request.modality
        return answer_key(
            {
                "catalogue": self._catalogue.version,
                "backbone": request.backbone_version if request.strategy.task is Task.RERANK else None,
                "task": request.strategy.task,
                "view": request.strategy.view,
                "modality": request.modality if raw else None,
                "image_mode": request.image_mode if shows_images else None,
                "prompt": prompts.VERSIONS[request.form],
                "montage": montage.VERSION if shows_images else None,
                "provider": request.provider,
                "model": request.model,
                "max_output_tokens": self._options.max_output_tokens,
                "history": [items[row].item_id for row in visit.history],
                "images": [items[row].image_sha256 for row in visit.history] if shows_images else None,
                "captions": [visit.captions.get(row) for row in visit.history],
                "pool": [items[row].item_id for row in visit.pool],
                "top": visit.top,
                "explain": request.explain,
            }
        )

    # --- what came back ---------------------------------------------------------------------------------

    def _judge(self, visit: _Visit) -> tuple[Answer, Outcome]:
        completion = visit.completion
        nothing = Answer((), 0, 0, visit.top)
        if completion.ending is Ending.LIMIT:
            return nothing, Outcome.FALLBACK_LIMIT
        if completion.ending is Ending.PROVIDER:
            return nothing, Outcome.FALLBACK_PROVIDER
        if completion.reason is FinishReason.REFUSAL:
            return nothing, Outcome.FALLBACK_ANSWER
        answer = self._read(visit)
        if completion.ending is Ending.DEADLINE:
            return answer, Outcome.PARTIAL if answer.order else Outcome.FALLBACK_DEADLINE
        self._count_repairs(visit.request, answer)
        if not answer.order:
            return answer, Outcome.FALLBACK_ANSWER
        return answer, Outcome.REPAIRED if answer.repaired else Outcome.OK

    def _read(self, visit: _Visit) -> Answer:
        text = visit.completion.text
        if visit.request.form == "label":
            return parse_labels(text, len(visit.pool), visit.top)
        names = prompts.shown_names([self._catalogue.items[row].name for row in visit.pool])
        return parse_titles(text, names)

    def _count_repairs(self, request: StageRequest, answer: Answer) -> None:
        for kind in ("invented", "duplicated", "missing"):
            self._metrics.lvlm_repairs.labels(request.provider, request.model, kind).inc(
                getattr(answer, kind)
            )

    async def _store(self, visit: _Visit, key: str, stored: StoredAnswer) -> None:
        # A task of its own: a slow cache may cost the caller a moment of what is left, and never the answer.
        task = asyncio.create_task(self._answers.put(key, stored))
        self._storing.add(task)
        task.add_done_callback(self._storing.discard)
        await asyncio.wait({task}, timeout=max(0.0, min(MARGIN, visit.time_left + MARGIN)))

    # --- the result -------------------------------------------------------------------------------------

    def _hit(self, visit: _Visit, stored: StoredAnswer) -> StageResult:
        visit.shown = stored.shown
        visit.completion = Completion(Ending.FINISHED, simulated=stored.simulated)
        return self._result(visit, stored.outcome, stored.answer, hit=True)

    def _fallback(self, visit: _Visit, outcome: Outcome, answer: Answer | None = None) -> StageResult:
        return self._result(visit, outcome, answer or Answer((), 0, 0, visit.top))

    def _result(self, visit: _Visit, outcome: Outcome, answer: Answer, *, hit: bool = False) -> StageResult:
        request, completion = visit.request, visit.completion
        if not outcome.good:
            self._metrics.fallbacks.labels(outcome.value).inc()
        return StageResult(
            order=tuple(visit.pool[position] for position in answer.order),
            outcome=outcome,
            provider=SIMULATOR if completion.simulated else request.provider,
            model=request.model,
            cache="hit" if hit else "miss" if request.cache == "use" else request.cache,
            shown=visit.shown,
            usage=completion.usage,
            cost_usd=completion.cost_usd,
            estimated=completion.estimated,
            invented=answer.invented,
            duplicated=answer.duplicated,
            missing=answer.missing,
            explanation=answer.explanation if request.explain else None,
            warnings=tuple(self._warnings(visit, hit=hit)),
            seconds=visit.seconds,
        )

    def _warnings(self, visit: _Visit, *, hit: bool) -> Iterator[str]:
        request, shown = visit.request, visit.shown
        price = self._gateway.warning(request.provider, request.model)
        if price and not hit and not visit.completion.simulated:
            yield price
        if not visit.history or not ("prompt" in visit.seconds or hit):
            return  # nothing was to be shown, or nothing was shown yet
        if request.strategy.view == "enhanced":
            bare = len(visit.history) - shown.captions
            if shown.captions == 0:
                yield "no captions: the history is shown by title alone"
            elif bare:
                yield f"{bare} items of the history have no caption yet and are shown by title"
        elif "image" in request.modality:
            bare = len(visit.history) - shown.images
            if shown.images == 0:
                yield "no images: none of the history's items has a readable image"
            elif bare:
                yield f"{bare} items of the history have no readable image"
