"""The LVLM stage: a history and a pool go in, an LVLM's order comes out in time, or the reason why not."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from service.catalogue.bundle import Catalogue
from service.lvlm.answer.streamed_prefix import OnPrefix, StreamedPrefix
from service.lvlm.answer_cache import AnswerCache, StoredAnswer
from service.lvlm.attempt import Ending
from service.lvlm.bill import Bill
from service.lvlm.calls.call_progress import Step
from service.lvlm.calls.gateway import Gateway
from service.lvlm.calls.singleflight import SharedCall, Singleflight
from service.lvlm.calls.worker_lease import WorkLease
from service.lvlm.captions import Captions
from service.lvlm.completion import Completion
from service.lvlm.contracts import JudgedAnswer, Outcome, Shown, StageOptions, StageRequest, StageResult
from service.lvlm.prompt.item_pictures import Pictures
from service.lvlm.providers.base import Call, FinishReason
from service.lvlm.ranking_call import RankingCall
from service.metrics import Metrics
from service.stores.base import reading_time

MAX_BACKGROUND = 256
"""Calls under way at which none is begun any more for the cache alone, without a request that waits."""


@dataclass(frozen=True, slots=True)
class Ranked:
    """What came of a shared call, for all requests that waited.

    Attributes:
        answer: the answer.
        bill: what the call took; None if this worker made none, since another worker answered or the wait
            was over before the call.
    """

    answer: JudgedAnswer
    bill: Bill | None


class LvlmStage:
    """Reranks pools, each of the catalogue that its request reads.

    Args:
        gateway: makes the calls.
        pictures: the items' pictures.
        captions: the items' captions.
        answers: keeps answers for equal requests.
        lease: keeps workers from making the same call twice.
        metrics: counts fallbacks and repairs.
        options: what the deployment chooses.
    """

    def __init__(
        self,
        *,
        gateway: Gateway,
        pictures: Pictures,
        captions: Captions,
        answers: AnswerCache,
        lease: WorkLease,
        metrics: Metrics,
        options: StageOptions,
    ) -> None:
        self._gateway = gateway
        self._pictures = pictures
        self._captions = captions
        self._answers = answers
        self._lease = lease
        self._metrics = metrics
        self._options = options
        self._singleflight: Singleflight[Ranked] = Singleflight()

    async def rerank(
        self, request: StageRequest, catalogue: Catalogue, on_prefix: OnPrefix | None = None
    ) -> StageResult:
        """Ranks the pool, whatever happens, by the request's deadline.

        Args:
            request: what to rank, and until when.
            catalogue: catalogue whose rows the request names.
            on_prefix: callback that gets the rows ranked so far while the answer is streamed; None for none.

        Raises:
            ValueError: the pool is empty or the strategy asks no LVLM; a fault of the caller.
        """
        ranking = RankingCall(request, catalogue, self._pictures, self._options)
        key, stored = await self._look_up(ranking)
        if stored and not self._answers.stale(stored):
            ranking.cache = "hit" if stored.good else "negative"
            return self._hit(ranking, stored)
        shared = self._join_or_begin(ranking, key, waits=stored is None and ranking.time_left > 0)
        if stored:
            ranking.cache, ranking.renews = "stale", True
            return self._hit(ranking, stored)
        return await self._await(ranking, shared, on_prefix)

    async def prompt(self, request: StageRequest, catalogue: Catalogue) -> Call:
        """Returns the call that would be made for a request, without making it.

        Raises:
            ValueError: the pool is empty or the strategy asks no LVLM.
        """
        ranking = RankingCall(request, catalogue, self._pictures, self._options)
        if request.strategy.view == "enhanced":
            found = await self._captions.read(catalogue, ranking.history, request.provider, request.model)
            ranking.captions = found.captions
        return await ranking.build(lambda: True)

    async def close(self) -> None:
        """Lets calls under way end and be kept, and stops everything that runs in the background."""
        await self._singleflight.close(self._options.closing_seconds)
        await self._captions.close()
        await self._gateway.close()
        self._pictures.close()

    async def _look_up(self, ranking: RankingCall) -> tuple[str, StoredAnswer | None]:
        """The key of the answer, and what the cache has; a cache that is slow has nothing."""
        request = ranking.request
        until = asyncio.get_running_loop().time() + reading_time(request.deadline)
        with ranking.timed("cache"):
            if request.strategy.view == "enhanced":
                with suppress(TimeoutError):
                    async with asyncio.timeout_at(until):
                        found = await self._captions.read(
                            ranking.catalogue, ranking.history, request.provider, request.model
                        )
                        ranking.captions, ranking.caption_calls = found.captions, found.begun
            key = ranking.key(request.provider, request.model)
            if request.cache != "use":
                return key, None
            try:
                async with asyncio.timeout_at(until):
                    return key, await self._answers.get(key, len(ranking.pool))
            except TimeoutError:
                self._answers.count("error")
                return key, None

    def _join_or_begin(self, ranking: RankingCall, key: str, *, waits: bool) -> SharedCall[Ranked] | None:
        """The call that answers this request: one under way, or its own; None if there is to be none.

        Args:
            ranking: the request.
            key: key of its answer.
            waits: whether it waits for the call; otherwise the call is for the cache alone.
        """
        now = asyncio.get_running_loop().time()
        alone = ranking.request.cache == "off"  # a measurement: it shares no call and fills no cache
        # Longer than this request waits: the answer is paid for, and the next equal request finds it.
        budget = max(0.0, ranking.time_left) + (0.0 if alone else self._options.call_seconds)
        until = now + (ranking.time_left if waits else 0.0)
        if not waits and (alone or len(self._singleflight) >= MAX_BACKGROUND):
            return None
        shared = None if alone else self._singleflight.join(key, until, awaited=waits)
        if shared:
            ranking.own, ranking.cache = False, "coalesced"
            self._answers.count("coalesced")
            return shared
        return self._singleflight.begin(
            None if alone else key,
            until,
            now + budget,
            lambda shared: self._fly(ranking, key, shared),
            awaited=waits,
        )

    async def _fly(self, ranking: RankingCall, key: str, shared: SharedCall[Ranked]) -> None:
        """Finds out the answer and keeps it, as a task of its own."""
        if ranking.request.cache != "use":
            await self._ask(ranking, key, shared)
            return
        clock = asyncio.get_running_loop().time
        try:
            async with self._lease.claim(
                key,
                look=lambda: self._answers.look(key, len(ranking.pool)),
                waited_for=lambda: clock() < shared.progress.until,
            ) as found:
                if found:
                    self._answers.count("coalesced")
                    shared.resolve(Ranked(found.answer, bill=None))
                else:
                    await self._ask(ranking, key, shared)
        except TimeoutError:
            self._give_up(ranking, shared)

    def _give_up(self, ranking: RankingCall, shared: SharedCall[Ranked]) -> None:
        """Ends a shared call before it is made, since no request waits for it any more."""
        shared.resolve(Ranked(ranking.nothing(Outcome.FALLBACK_DEADLINE, Shown()), bill=None))

    async def _ask(self, ranking: RankingCall, key: str, shared: SharedCall[Ranked]) -> None:
        """Makes the call, gives its answer to the requests that wait, and keeps it."""
        request, progress, clock = ranking.request, shared.progress, asyncio.get_running_loop().time
        try:
            with ranking.timed("prompt"):
                call = await ranking.build(lambda: clock() < progress.until)
        except TimeoutError:
            self._give_up(ranking, shared)
            return
        progress.shown = ranking.shown
        # The requests that waited may have left while the prompt was built.
        progress.awaited &= clock() < progress.until
        completion = await self._gateway.call(
            request.provider,
            call,
            shared.end - clock(),
            alternatives=request.alternatives,
            progress=progress,
        )
        answer = ranking.judge(completion)
        self._count_repairs(completion, answer)
        shared.resolve(Ranked(answer, completion.bill))
        await self._keep(ranking, key, completion, answer)

    async def _keep(
        self, ranking: RankingCall, key: str, completion: Completion, answer: JudgedAnswer
    ) -> None:
        """Remembers a whole answer of the model that was asked, and anything less for a moment."""
        request, finished = ranking.request, completion.ending is Ending.FINISHED
        if request.cache == "off" or not (finished or ranking.renews):
            return
        stored, responder = StoredAnswer(answer), answer.responder
        # An answer that the token cap cut off is used, and is not worth keeping for long.
        whole = finished and stored.good and completion.reason is FinishReason.STOP
        if whole and (responder.provider, responder.model) == (request.provider, request.model):
            await self._answers.put(key, stored)
            return
        # Another model answered: its answer is good for requests that ask that model.
        if whole:
            await self._answers.put(ranking.key(responder.provider, responder.model), stored)
        await self._answers.make_do(key, stored if finished else None, len(ranking.pool))

    async def _await(
        self, ranking: RankingCall, shared: SharedCall[Ranked] | None, on_prefix: OnPrefix | None
    ) -> StageResult:
        """Waits for the call as long as the request can."""
        if shared is None:
            return self._fallback(ranking, Outcome.FALLBACK_DEADLINE)
        began, built = time.perf_counter(), ranking.seconds.get("prompt", 0.0)
        watcher = None
        if on_prefix:
            ranking.streamed = StreamedPrefix(ranking.pool, ranking.candidates, ranking.request.k, on_prefix)
            watcher = partial(ranking.streamed.update, shared.progress)
        until = asyncio.get_running_loop().time() + max(0.0, ranking.time_left)
        try:
            there = await shared.wait(until, watcher)
        except asyncio.CancelledError:
            if ranking.request.cache == "off":  # no other request waits for it, and nothing would keep it
                shared.cancel()
            raise
        # The prompt of an own call is built while this waits, and has a step of its own.
        own = ranking.seconds.get("prompt", 0.0) - built if ranking.own else 0.0
        ranking.seconds["lvlm"] = max(0.0, time.perf_counter() - began - own)
        if there and shared.result.cancelled():  # our own fault, and it is in the log; or the service stops
            return self._fallback(ranking, Outcome.FALLBACK_PROVIDER)
        if there:
            ranked = shared.result.result()
            if ranked.bill is None:
                ranking.own, ranking.cache = False, "coalesced"
            return self._result(ranking, ranked.answer, ranked.bill or Bill())
        completion = self._gateway.completion(shared.progress, _ENDINGS[shared.progress.step])
        # The call may go on for the cache; this request gets what is there, and an estimate of the bill.
        ranking.shown = shared.progress.shown
        return self._result(ranking, ranking.judge(completion), completion.bill)

    def _hit(self, ranking: RankingCall, stored: StoredAnswer) -> StageResult:
        ranking.own = False
        return self._result(ranking, stored.answer, Bill())

    def _fallback(self, ranking: RankingCall, outcome: Outcome) -> StageResult:
        return self._result(ranking, ranking.nothing(outcome, ranking.shown), Bill())

    def _result(self, ranking: RankingCall, answer: JudgedAnswer, bill: Bill) -> StageResult:
        result = ranking.result(answer, bill, self._gateway.price_warning)
        if not result.outcome.good:
            self._metrics.fallbacks.labels(result.outcome.value).inc()
        return result

    def _count_repairs(self, completion: Completion, answer: JudgedAnswer) -> None:
        if completion.ending is not Ending.FINISHED or completion.reason is FinishReason.REFUSAL:
            return
        labels = (answer.responder.provider, answer.responder.model)
        for kind in ("invented", "duplicated", "missing", "form"):
            self._metrics.lvlm_repairs.labels(*labels, kind).inc(getattr(answer.parsed, kind))


_ENDINGS = {
    Step.PREPARING: Ending.DEADLINE,
    Step.WAITING: Ending.LIMIT,
    Step.ASKING: Ending.DEADLINE,
    Step.PAUSING: Ending.PROVIDER,
}
"""How a call ends for a request that leaves it in the middle of a step."""
