"""The LVLM stage: a history and a pool go in, an LVLM's order comes out in time, or the reason why not."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial

from service.catalogue.bundle import Catalogue
from service.lvlm import montage, prompts
from service.lvlm.answer_cache import AnswerCache, StoredAnswer, answer_key
from service.lvlm.answers import Answer, is_complete, read_answer
from service.lvlm.captions import Captions
from service.lvlm.contracts import HISTORY_SHOWN, CacheResult, Outcome, Shown, StageRequest, StageResult
from service.lvlm.elsewhere import Elsewhere
from service.lvlm.entries import Candidates
from service.lvlm.flights import Flight, Flights
from service.lvlm.gateway import Completion, Ending, Gateway
from service.lvlm.history_view import view_history, without_pictures
from service.lvlm.pictures import Pictured, Pictures
from service.lvlm.progress import Step
from service.lvlm.providers.base import Call, FinishReason, Prompt, Usage
from service.lvlm.stage_warnings import model_warnings, view_warnings
from service.lvlm.told import Placed, Told
from service.metrics import Metrics
from service.stores.base import reading_time
from service.strategies import Task

__all__ = ["LvlmStage", "Outcome", "Shown", "StageOptions", "StageRequest", "StageResult"]

SIMULATOR = "simulator"

MARGIN = 0.02
"""Seconds between the provider's deadline and the request's: time to read the answer and to fall back."""

IN_BACKGROUND = 256
"""Calls under way at which none is begun any more that nobody waits for."""


@dataclass(frozen=True, slots=True)
class StageOptions:
    """What a deployment chooses.

    Attributes:
        stream: ask for server-sent events, so that a deadline finds a prefix of the ranking.
        max_output_tokens: cap on an answer; generous, since models that think bill their thoughts here.
        call_seconds: how long a call may go on, for the cache, after its request's deadline.
        closing_seconds: how long calls under way may go on when the service stops: they are paid for.
    """

    stream: bool = True
    max_output_tokens: int = 2_048
    call_seconds: float = 60.0
    closing_seconds: float = 5.0


@dataclass(frozen=True, slots=True)
class _Landing:
    """What came of a call for all who waited.

    Attributes:
        elsewhere: another worker made the call.
    """

    completion: Completion
    answer: Answer
    outcome: Outcome
    shown: Shown
    elsewhere: bool = False


@dataclass(slots=True)
class _Visit:
    """One request on its way through the stage.

    Attributes:
        catalogue: whose rows the request names.
        pool: rows in the order shown.
        history: rows shown, oldest first.
        captions: row -> caption, in the enhanced view.
        caption_calls: begun in the background for captions that are missing.
        leads: whether the call is this request's own, and so its bill.
        cache: what the cache did for it.
        stale: the old answer that a new one is fetched for.
        candidates: the pool as the prompt shows it; None until an answer is read.
        told: what it has seen of the answer; None for a request that does not watch.
    """

    catalogue: Catalogue
    request: StageRequest
    pool: tuple[int, ...]
    history: tuple[int, ...]
    captions: Mapping[int, str] = field(default_factory=dict)
    caption_calls: int = 0
    shown: Shown | None = None
    completion: Completion = field(default_factory=lambda: Completion(Ending.DEADLINE))
    leads: bool = True
    cache: CacheResult = "miss"
    stale: StoredAnswer | None = None
    candidates: Candidates | None = None
    told: Told | None = None
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
    """Reranks pools, each of the catalogue that a request reads."""

    def __init__(
        self,
        *,
        gateway: Gateway,
        pictures: Pictures,
        captions: Captions,
        answers: AnswerCache,
        elsewhere: Elsewhere,
        metrics: Metrics,
        options: StageOptions,
    ) -> None:
        self._gateway = gateway
        self._pictures = pictures
        self._captions = captions
        self._answers = answers
        self._elsewhere = elsewhere
        self._metrics = metrics
        self._options = options
        self._flights: Flights[_Landing] = Flights()

    async def rerank(
        self, request: StageRequest, catalogue: Catalogue, placed: Placed | None = None
    ) -> StageResult:
        """Rank the pool, whatever happens, by the request's deadline.

        Args:
            request: what to rank, and until when.
            catalogue: whose rows the request names.
            placed: told what the LVLM has placed so far while it goes on.

        Raises:
            ValueError: the pool is empty or the strategy asks no LVLM; a fault of the caller.
        """
        visit = _Visit(
            catalogue, request, self._shown_pool(request, catalogue), request.history[-HISTORY_SHOWN:]
        )
        visit.cache = "miss" if request.cache == "use" else request.cache
        key, stored = await self._look_up(visit)
        if stored and not self._answers.stale(stored):
            return self._hit(visit, stored)
        flight = self._flight(visit, key, waits=stored is None and visit.time_left > 0)
        if stored:
            visit.cache, visit.stale = "stale", stored
            return self._hit(visit, stored)
        return await self._await(visit, flight, placed)

    async def prompt(self, request: StageRequest, catalogue: Catalogue) -> Call:
        """The call that would be made for a request, without making it.

        Raises:
            ValueError: the pool is empty or the strategy asks no LVLM.
        """
        visit = _Visit(
            catalogue, request, self._shown_pool(request, catalogue), request.history[-HISTORY_SHOWN:]
        )
        if request.strategy.view == "enhanced":
            found = await self._captions.read(catalogue, visit.history, request.provider, request.model)
            visit.captions = found.captions
        return self._call(visit, await self._build_prompt(visit, lambda: True))

    async def close(self) -> None:
        """Let calls under way land, write their answers, and stop everything that runs in the background."""
        await self._flights.close(self._options.closing_seconds)
        await self._captions.close()
        await self._gateway.close()
        self._pictures.close()

    async def _look_up(self, visit: _Visit) -> tuple[str, StoredAnswer | None]:
        """The key of the answer, and what the cache has; a cache that is slow has nothing."""
        request = visit.request
        until = asyncio.get_running_loop().time() + reading_time(request.deadline)
        with visit.timed("cache"):
            if request.strategy.view == "enhanced":
                with suppress(TimeoutError):
                    async with asyncio.timeout_at(until):
                        found = await self._captions.read(
                            visit.catalogue, visit.history, request.provider, request.model
                        )
                        visit.captions, visit.caption_calls = found.captions, found.begun
            key = self._key(visit, request.provider, request.model)
            if request.cache != "use":
                return key, None
            try:
                async with asyncio.timeout_at(until):
                    return key, await self._answers.get(key, len(visit.pool))
            except TimeoutError:
                self._answers.count("error")
                return key, None

    # --- the call ---------------------------------------------------------------------------------------

    def _flight(self, visit: _Visit, key: str, *, waits: bool) -> Flight[_Landing] | None:
        """The call that answers this visit: one under way, or its own; None if there is to be none."""
        request, now = visit.request, asyncio.get_running_loop().time()
        alone = request.cache == "off"  # a measurement: its own call, and nobody's after it
        budget = max(0.0, visit.time_left) + (0.0 if alone else self._options.call_seconds)
        until = now + (visit.time_left if waits else 0.0)
        if not waits and (alone or len(self._flights) >= IN_BACKGROUND):
            return None
        flight = None if alone else self._flights.join(key, until, awaited=waits)
        if flight:
            visit.leads, visit.cache = False, "coalesced"
            self._answers.count("coalesced")
            return flight
        return self._flights.begin(
            None if alone else key,
            until,
            now + budget,
            lambda flight: self._fly(visit, key, flight),
            awaited=waits,
        )

    async def _fly(self, visit: _Visit, key: str, flight: Flight[_Landing]) -> None:
        """Find out the answer and keep it, as a task of its own."""
        if visit.request.cache != "use":
            await self._ask(visit, key, flight)
            return
        clock = asyncio.get_running_loop().time
        try:
            async with self._elsewhere.claimed(
                key,
                look=lambda: self._answers.look(key, len(visit.pool)),
                waited_for=lambda: clock() < flight.progress.until,
            ) as found:
                if found:
                    self._answers.count("coalesced")
                    flight.land(_landing(found))
                else:
                    await self._ask(visit, key, flight)
        except TimeoutError:
            self._land_nowhere(visit, flight)

    def _land_nowhere(self, visit: _Visit, flight: Flight[_Landing]) -> None:
        """End a call that nobody waits for any more before it is made."""
        nothing = Answer((), 0, 0, visit.top)
        ended = Completion(Ending.DEADLINE)
        flight.land(_Landing(ended, nothing, Outcome.FALLBACK_DEADLINE, Shown(), elsewhere=True))

    async def _ask(self, visit: _Visit, key: str, flight: Flight[_Landing]) -> None:
        request, progress, clock = visit.request, flight.progress, asyncio.get_running_loop().time
        try:
            with visit.timed("prompt"):
                prompt = await self._build_prompt(visit, lambda: clock() < progress.until)
        except TimeoutError:
            self._land_nowhere(visit, flight)
            return
        assert visit.shown is not None
        progress.shown = visit.shown
        progress.awaited &= clock() < progress.until
        completion = await self._gateway.call(
            request.provider,
            self._call(visit, prompt),
            flight.end - clock(),
            alternatives=request.alternatives,
            progress=progress,
        )
        if completion.blind:
            visit.shown = without_pictures(visit.shown, visit.history)
        answer, outcome = self._judge(visit, completion)
        self._count_repairs(completion, answer, outcome)
        flight.land(_Landing(completion, answer, outcome, visit.shown))
        await self._keep(visit, key, completion, answer, outcome)

    async def _keep(
        self, visit: _Visit, key: str, completion: Completion, answer: Answer, outcome: Outcome
    ) -> None:
        """Remember a whole answer of the model that was asked, and anything less for a moment."""
        request, finished = visit.request, completion.ending is Ending.FINISHED
        if request.cache == "off" or not (finished or visit.stale):
            return
        stored = StoredAnswer(
            answer,
            outcome,
            visit.shown or Shown(),
            completion.simulated,
            completion.provider,
            completion.model,
            completion.blind,
        )
        # An answer that the token cap cut off is used, and is not worth keeping for long.
        whole = finished and outcome.good and completion.reason is FinishReason.STOP
        if whole and (completion.provider, completion.model) == (request.provider, request.model):
            await self._answers.put(key, stored)
            return
        if whole:
            await self._answers.put(self._key(visit, completion.provider, completion.model), stored)
        await self._answers.make_do(key, stored if finished else None, len(visit.pool))

    async def _await(
        self, visit: _Visit, flight: Flight[_Landing] | None, placed: Placed | None
    ) -> StageResult:
        """Wait for the call as long as the request can."""
        if flight is None:
            return self._fallback(visit, Outcome.FALLBACK_DEADLINE)
        began, built = time.perf_counter(), visit.seconds.get("prompt", 0.0)
        watcher = None
        if placed:
            visit.told = Told(visit.pool, self._candidates(visit), visit.request.k, placed)
            watcher = partial(visit.told.look, flight.progress)
        until = asyncio.get_running_loop().time() + max(0.0, visit.time_left)
        try:
            landed = await flight.wait(until, watcher)
        except asyncio.CancelledError:
            if visit.request.cache == "off":  # nobody else waits for it, and nothing would keep it
                flight.cancel()
            raise
        own = visit.seconds.get("prompt", 0.0) - built if visit.leads else 0.0
        visit.seconds["lvlm"] = max(0.0, time.perf_counter() - began - own)
        if landed and flight.landing.cancelled():  # our own fault, and it is in the log; or the service stops
            return self._fallback(visit, Outcome.FALLBACK_PROVIDER)
        if landed:
            landing = flight.landing.result()
            if landing.elsewhere:
                visit.leads, visit.cache = False, "coalesced"
            visit.completion, visit.shown = landing.completion, landing.shown
            return self._result(visit, landing.outcome, landing.answer)
        visit.completion = self._gateway.completion(flight.progress, _ENDINGS[flight.progress.step])
        visit.shown = flight.progress.shown
        if visit.completion.blind and visit.shown:
            visit.shown = without_pictures(visit.shown, visit.history)
        answer, outcome = self._judge(visit, visit.completion)
        return self._result(visit, outcome, answer)

    # --- what is shown ----------------------------------------------------------------------------------

    def _shown_pool(self, request: StageRequest, catalogue: Catalogue) -> tuple[int, ...]:
        if not request.pool or request.strategy.task is Task.NONE:
            raise ValueError("the LVLM stage needs candidates and a strategy that asks an LVLM")
        if request.strategy.task is Task.RERANK:
            return request.pool
        # Sorted first and seeded by nothing else: neither the request's order nor the candidate model's
        # reaches the LVLM, and the same visit is shown the same pool again.
        items = catalogue.items
        pool = sorted(request.pool, key=lambda row: items[row].item_id)
        history = request.history[-HISTORY_SHOWN:]
        facts = [[items[row].item_id for row in rows] for rows in (pool, history)]
        seed = hashlib.sha256(json.dumps(facts).encode()).digest()
        random.Random(seed).shuffle(pool)
        return tuple(pool)

    async def _build_prompt(self, visit: _Visit, wanted: Callable[[], bool]) -> Prompt:
        """What the LVLM reads.

        Raises:
            TimeoutError: its pictures' turn came when it was not wanted any more.
        """
        request = visit.request
        pictured = Pictured()
        if request.strategy.view == "raw" and "image" in request.modality:
            pictured = await self._pictures.history(
                visit.catalogue, visit.history, request.image_mode, wanted
            )
        prompt, visit.shown = self._prompt(visit, pictured)
        if not pictured.images:
            return prompt
        return replace(prompt, without_images=lambda: self._prompt(visit, None)[0])

    def _prompt(self, visit: _Visit, pictured: Pictured | None) -> tuple[Prompt, Shown]:
        """The prompt with these pictures, or the one for a server that takes none."""
        request, items = visit.request, visit.catalogue.items
        view = view_history(visit.catalogue, request, visit.history, visit.captions, pictured)
        question = prompts.Question(
            task=request.strategy.task,
            form=request.form,
            history=view.entries,
            candidates=tuple(items[row].name for row in visit.pool),
            top=visit.top,
            explain=request.explain,
            images=pictured.images if pictured else (),
            image_mode=request.image_mode,
        )
        return prompts.ranking_prompt(question), view.shown

    def _call(self, visit: _Visit, prompt: Prompt) -> Call:
        request = visit.request
        return Call(
            prompt,
            request.model,
            self._options.max_output_tokens,
            stream=self._options.stream,
            context={"strategy": request.strategy.name},
            complete=partial(self._is_complete, visit),
        )

    def _key(self, visit: _Visit, provider: str, model: str) -> str:
        """Everything that changes the answer."""
        request, items = visit.request, visit.catalogue.items
        raw = request.strategy.view == "raw"
        shows_images = raw and "image" in request.modality
        return answer_key(
            {
                "catalogue": visit.catalogue.version,
                "backbone": request.backbone_version if request.strategy.task is Task.RERANK else None,
                "task": request.strategy.task,
                "view": request.strategy.view,
                "modality": request.modality if raw else None,
                "image_mode": request.image_mode if shows_images else None,
                "prompt": prompts.VERSIONS[request.form],
                "montage": montage.VERSION if shows_images else None,
                "provider": provider,
                "model": model,
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

    def _judge(self, visit: _Visit, completion: Completion) -> tuple[Answer, Outcome]:
        nothing = Answer((), 0, 0, visit.top)
        if completion.ending in _NO_ANSWER:
            return nothing, _NO_ANSWER[completion.ending]
        if completion.reason is FinishReason.REFUSAL:
            return nothing, Outcome.FALLBACK_ANSWER
        whole = completion.reason is FinishReason.STOP or self._is_complete(visit, completion.text)
        answer = read_answer(completion.text, self._candidates(visit), visit.top, finished=whole)
        if completion.ending is Ending.DEADLINE and not whole:
            return answer, Outcome.PARTIAL if answer.order else Outcome.FALLBACK_DEADLINE
        if not answer.order:
            return answer, Outcome.FALLBACK_ANSWER
        return answer, Outcome.REPAIRED if answer.repaired else Outcome.OK

    def _candidates(self, visit: _Visit) -> Candidates:
        if visit.candidates is None:
            names = prompts.shown_names([visit.catalogue.items[row].name for row in visit.pool])
            visit.candidates = Candidates(names, visit.request.form)
        return visit.candidates

    def _is_complete(self, visit: _Visit, text: str) -> bool:
        return is_complete(text, self._candidates(visit), visit.top)

    def _count_repairs(self, completion: Completion, answer: Answer, outcome: Outcome) -> None:
        if completion.ending is not Ending.FINISHED or completion.reason is FinishReason.REFUSAL:
            return
        for kind in ("invented", "duplicated", "missing", "form"):
            self._metrics.lvlm_repairs.labels(completion.provider, completion.model, kind).inc(
                getattr(answer, kind)
            )

    # --- the result -------------------------------------------------------------------------------------

    def _hit(self, visit: _Visit, stored: StoredAnswer) -> StageResult:
        landing = _landing(stored)
        visit.completion, visit.shown, visit.leads = landing.completion, landing.shown, False
        if visit.cache != "stale":
            visit.cache = "hit" if stored.outcome.good else "negative"
        return self._result(visit, stored.outcome, stored.answer)

    def _fallback(self, visit: _Visit, outcome: Outcome) -> StageResult:
        return self._result(visit, outcome, Answer((), 0, 0, visit.top))

    def _result(self, visit: _Visit, outcome: Outcome, answer: Answer) -> StageResult:
        request, completion, mixed = visit.request, visit.completion, None
        if visit.told:
            settled = visit.told.settle(outcome, answer, visit.top)
            outcome, answer, mixed = settled.outcome, settled.answer, settled.warning
        if not outcome.good:
            self._metrics.fallbacks.labels(outcome.value).inc()
        return StageResult(
            order=tuple(visit.pool[position] for position in answer.order),
            outcome=outcome,
            provider=SIMULATOR if completion.simulated else completion.provider or request.provider,
            model=completion.model or request.model,
            cache=visit.cache,
            shown=visit.shown or Shown(),
            usage=completion.usage if visit.leads else Usage(),
            cost_usd=completion.cost_usd if visit.leads else 0.0,
            estimated=completion.estimated and visit.leads,
            caption_calls=visit.caption_calls,
            invented=answer.invented,
            duplicated=answer.duplicated,
            missing=answer.missing,
            explanation=answer.explanation if request.explain else None,
            warnings=(*self._warnings(visit, outcome), *([mixed] if mixed else [])),
            seconds=visit.seconds,
        )

    def _warnings(self, visit: _Visit, outcome: Outcome) -> Iterator[str]:
        request, completion, shown = visit.request, visit.completion, visit.shown
        provider, model = completion.provider or request.provider, completion.model or request.model
        price = self._gateway.warning(provider, model)
        if price and visit.leads and not completion.simulated:
            yield price
        if outcome.good:
            yield from model_warnings(request, completion)
        if visit.history and shown is not None:  # else nothing was to be shown, or nothing was shown yet
            yield from view_warnings(request, completion, shown, len(visit.history))


_NO_ANSWER = {
    Ending.LIMIT: Outcome.FALLBACK_LIMIT,
    Ending.BUDGET: Outcome.FALLBACK_BUDGET,
    Ending.PROVIDER: Outcome.FALLBACK_PROVIDER,
}

_ENDINGS = {
    Step.PREPARING: Ending.DEADLINE,
    Step.WAITING: Ending.LIMIT,
    Step.ASKING: Ending.DEADLINE,
    Step.PAUSING: Ending.PROVIDER,
}
"""How a call ends for a request that leaves it in the middle of a step."""


def _landing(stored: StoredAnswer) -> _Landing:
    completion = Completion(
        Ending.FINISHED,
        simulated=stored.simulated,
        blind=stored.blind,
        provider=stored.provider,
        model=stored.model,
    )
    return _Landing(completion, stored.answer, stored.outcome, stored.shown, elsewhere=True)
