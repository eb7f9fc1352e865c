"""The LVLM stage: a history and a pool go in; an LVLM's order comes out in time, or why there is none.

Here is the way of a request: look the answer up in the cache, join a call or begin one, wait for it, store
the answer. What one request asks, and how its answer is read, is in ``ranking_call``; how calls are made, in
``calls``.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from service.catalogue.bundle import Catalogue
from service.lvlm.answer.streamed_prefix import OnPrefix, StreamedPrefix
from service.lvlm.answer_cache import AnswerCache, StoredAnswer
from service.lvlm.bill import Bill
from service.lvlm.call_completion import Completion
from service.lvlm.calls.call_progress import Step
from service.lvlm.calls.cross_worker_lease import WorkLease
from service.lvlm.calls.gateway import Gateway
from service.lvlm.calls.singleflight import SharedCall, Singleflight
from service.lvlm.captions import Captions
from service.lvlm.contracts import JudgedAnswer, Outcome, Shown, StageOptions, StageRequest, StageResult
from service.lvlm.prompt.item_pictures import Pictures
from service.lvlm.provider_attempt import Ending
from service.lvlm.providers.base import Call, FinishReason
from service.lvlm.ranking_call import RankingCall
from service.metrics import Metrics
from service.stores.base import store_read_timeout

MAX_BACKGROUND = 256
"""Running calls from which on no call is begun for the cache alone; stale answers are then not renewed."""


@dataclass(frozen=True, slots=True)
class SharedAnswer:
    """The result of a shared call, for all requests that wait for it.

    Attributes:
        answer: answer of the call.
        bill: bill of the call; None if this worker made no call, since another worker had the answer or no
            request waited any more.
    """

    answer: JudgedAnswer
    bill: Bill | None


class LvlmStage:
    """Orders pools by an LVLM, each of the catalogue that its request reads.

    Args:
        gateway: gateway that makes the calls.
        pictures: maker of the items' pictures.
        captions: finder of the items' captions.
        answers: cache of answers for equal requests.
        lease: lease that keeps workers from making the same call twice.
        metrics: counters of fallbacks and repairs.
        options: options of the deployment.
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
        self._singleflight: Singleflight[SharedAnswer] = Singleflight()

    async def rerank(
        self, request: StageRequest, catalogue: Catalogue, on_prefix: OnPrefix | None = None
    ) -> StageResult:
        """Ranks the pool by the request's deadline; no failure of a provider or a store raises.

        Args:
            request: pool to rank, and the deadline.
            catalogue: catalogue whose rows the request names.
            on_prefix: callback that gets the rows ranked so far while the answer is streamed; None for no
                streaming.

        Raises:
            ValueError: the pool is empty or the strategy asks no LVLM, both errors of the caller.
        """
        ranking = RankingCall(request, catalogue, self._pictures, self._options)
        key, stored = await self._look_up(ranking)
        if stored and not self._answers.stale(stored):
            ranking.cache = "hit" if stored.good else "negative"
            return self._hit(ranking, stored)
        # Also with a stale answer, which is given at once: then the call renews it, and no request waits.
        shared = self._join_or_begin(ranking, key, waits=stored is None and ranking.time_left > 0)
        if stored:
            ranking.cache, ranking.renews = "stale", True
            return self._hit(ranking, stored)
        return await self._wait_for(ranking, shared, on_prefix)

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
        """Waits for running calls to end and be cached, then stops everything that runs in the background."""
        # In the order of use: calls need captions, gateway and pictures until they have ended.
        await self._singleflight.close(self._options.closing_seconds)
        await self._captions.close()
        await self._gateway.close()
        self._pictures.close()

    async def _look_up(self, ranking: RankingCall) -> tuple[str, StoredAnswer | None]:
        """The key of the answer, and the cached answer; a cache that is too slow counts as a miss."""
        request = ranking.request
        until = asyncio.get_running_loop().time() + store_read_timeout(request.deadline)
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

    def _join_or_begin(
        self, ranking: RankingCall, key: str, *, waits: bool
    ) -> SharedCall[SharedAnswer] | None:
        """Returns the call that answers this request: a running one, or its own; None if none is to be made.

        Args:
            ranking: request that needs an answer.
            key: key of the answer.
            waits: whether the request waits for the call; otherwise the call is for the cache alone.
        """
        now = asyncio.get_running_loop().time()
        measured = ranking.request.cache == "off"  # a measurement: it shares no call and fills no cache
        # The call may last longer than the request waits: it is paid for, and its answer is cached.
        budget = max(0.0, ranking.time_left) + (0.0 if measured else self._options.call_seconds)
        until = now + (ranking.time_left if waits else 0.0)
        if not waits and (measured or len(self._singleflight) >= MAX_BACKGROUND):
            return None
        shared = None if measured else self._singleflight.join(key, until, awaited=waits)
        if shared:
            ranking.own, ranking.cache = False, "coalesced"
            self._answers.count("coalesced")
            return shared
        return self._singleflight.begin(
            None if measured else key,
            until,
            now + budget,
            lambda shared: self._find_answer(ranking, key, shared),
            awaited=waits,
        )

    async def _find_answer(self, ranking: RankingCall, key: str, shared: SharedCall[SharedAnswer]) -> None:
        """Finds the answer of a shared call in its task: another worker's in the cache, or by a call."""
        if ranking.request.cache != "use":
            await self._make_call(ranking, key, shared)
            return
        clock = asyncio.get_running_loop().time
        try:
            async with self._lease.claim(
                key,
                find=lambda: self._answers.find_fresh(key, len(ranking.pool)),
                still_wanted=lambda: clock() < shared.progress.until,
            ) as found:
                if found:
                    self._answers.count("coalesced")
                    shared.resolve(SharedAnswer(found.answer, bill=None))
                else:
                    await self._make_call(ranking, key, shared)
        except TimeoutError:
            self._give_up(ranking, shared)

    def _give_up(self, ranking: RankingCall, shared: SharedCall[SharedAnswer]) -> None:
        """Resolves a shared call that is not made, since no request waits for it any more."""
        shared.resolve(SharedAnswer(ranking.no_answer(Outcome.FALLBACK_DEADLINE, Shown()), bill=None))

    async def _make_call(self, ranking: RankingCall, key: str, shared: SharedCall[SharedAnswer]) -> None:
        """Makes the call, gives its answer to the requests that wait, and stores it."""
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
        # Before the answer is stored: requests do not wait for the cache.
        shared.resolve(SharedAnswer(answer, completion.bill))
        await self._keep(ranking, key, completion, answer)

    async def _keep(
        self, ranking: RankingCall, key: str, completion: Completion, answer: JudgedAnswer
    ) -> None:
        """Stores a whole answer of the model that was asked, and any other answer briefly."""
        request, finished = ranking.request, completion.ending is Ending.FINISHED
        if request.cache == "off" or not (finished or ranking.renews):
            return
        stored, responder = StoredAnswer(answer, owner=request.owner), answer.responder
        # An answer that the token cap cut off is used, but not stored for long.
        whole = finished and stored.good and completion.reason is FinishReason.STOP
        if whole and (responder.provider, responder.model) == (request.provider, request.model):
            await self._answers.put(key, stored)
            return
        # A whole answer of another model is stored for requests that ask that model.
        if whole:
            await self._answers.put(ranking.key(responder.provider, responder.model), stored)
        await self._answers.put_provisional(key, stored if finished else None, len(ranking.pool))

    async def _wait_for(
        self, ranking: RankingCall, shared: SharedCall[SharedAnswer] | None, on_prefix: OnPrefix | None
    ) -> StageResult:
        """Waits for the call until the request's deadline, and makes the result of what is there by then."""
        if shared is None:
            return self._without_answer(ranking, Outcome.FALLBACK_DEADLINE)
        began, built = time.perf_counter(), ranking.seconds.get("prompt", 0.0)
        watcher = None
        if on_prefix:
            ranking.streamed = StreamedPrefix(ranking.pool, ranking.candidates, ranking.request.k, on_prefix)
            watcher = partial(ranking.streamed.update, shared.progress)
        until = asyncio.get_running_loop().time() + max(0.0, ranking.time_left)
        try:
            there = await shared.wait(until, watcher)
        except asyncio.CancelledError:
            if ranking.request.cache == "off":  # no other request waits for it, and its answer is not cached
                shared.cancel()
            raise
        # An own call's prompt is built while this request waits; those seconds count as the step "prompt".
        own = ranking.seconds.get("prompt", 0.0) - built if ranking.own else 0.0
        ranking.seconds["lvlm"] = max(0.0, time.perf_counter() - began - own)
        if there and shared.result.cancelled():  # by a bug of ours, which is logged, or the service's stop
            return self._without_answer(ranking, Outcome.FALLBACK_PROVIDER)
        if there:
            shared_answer = shared.result.result()
            if shared_answer.bill is None:  # another worker's answer
                ranking.own, ranking.cache = False, "coalesced"
            return self._result(ranking, shared_answer.answer, shared_answer.bill or Bill())
        completion = self._gateway.completion(shared.progress, _ENDINGS[shared.progress.step])
        # The call goes on for the cache; this request gets the text so far, and an estimate of the bill.
        ranking.shown = shared.progress.shown
        return self._result(ranking, ranking.judge(completion), completion.bill)

    def _hit(self, ranking: RankingCall, stored: StoredAnswer) -> StageResult:
        ranking.own = False
        return self._result(ranking, stored.answer, Bill())

    def _without_answer(self, ranking: RankingCall, outcome: Outcome) -> StageResult:
        return self._result(ranking, ranking.no_answer(outcome, ranking.shown), Bill())

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
"""Ending of a call for a request whose deadline comes while the call is in this step."""
