"""Finds captions of item images for prompts: in the bundle, else in the cache, else they are made for later.

No request waits for a caption to be made. A missing one is made in the background: this request shows the
item by its title, and a later one finds the caption in the cache.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from service.catalogue.bundle import Catalogue
from service.lvlm.call_completion import Completion
from service.lvlm.calls.call_progress import CallProgress
from service.lvlm.calls.gateway import Gateway
from service.lvlm.prompt.item_pictures import Pictures
from service.lvlm.prompt.prompts import CAPTION_CAP, CAPTION_VERSION, caption_prompt, clean
from service.lvlm.provider_attempt import Ending
from service.lvlm.providers.base import Call, FinishReason, Image
from service.metrics import Metrics
from service.stores.base import Cache, Leases, StoreError

CACHE = "captions"
"""Label of this cache in the metrics."""

MAX_PENDING = 64
"""Captions that are being made or queued at most; beyond it a missing one is left to a later request."""

MAX_CONCURRENT_CALLS = 2
"""Background calls at a time; others are queued. Few, since they share the provider with requests."""

CALL_TIMEOUT = 60.0
"""Seconds after which a call for a caption is cut; its caption counts as failed."""

FAILED_TTL = 300.0
"""Seconds for which no new call is made for an image whose caption failed."""


@dataclass(frozen=True, slots=True)
class FoundCaptions:
    """The captions that exist for some items.

    Attributes:
        captions: captions by item row.
        begun: number of background calls begun for missing captions; they cost money like all calls.
    """

    captions: Mapping[int, str]
    begun: int = 0


class Captions:
    """Finds captions of the catalogue that a request reads, and makes missing ones in the background.

    Args:
        pictures: reader of the item images.
        gateway: gateway that makes the calls.
        cache: cache of captions that are not in the bundle.
        metrics: counters of the cache's hits and misses.
        ttl: seconds for which the cache keeps a caption.
        max_output_tokens: cap on the length of a caption.
        captioner: name of the only captioner of the bundle to use. Empty: the ranking model's own captions,
            and for items without one those of the first other captioner by name.
        fill: whether missing captions are made in the background.
        leases: leases that keep two workers from making the same caption; None for a single process.
    """

    def __init__(
        self,
        pictures: Pictures,
        gateway: Gateway,
        cache: Cache,
        metrics: Metrics,
        *,
        ttl: float,
        max_output_tokens: int,
        captioner: str = "",
        fill: bool = True,
        leases: Leases | None = None,
    ) -> None:
        self._pictures = pictures
        self._gateway = gateway
        self._cache = cache
        self._metrics = metrics
        self._ttl = ttl
        self._max_output_tokens = max_output_tokens
        self._captioner = captioner
        self._fill = fill
        self._leases = leases
        self._holder = uuid.uuid4().hex  # of leases, to tell this process from other workers
        self._pending: dict[str, asyncio.Task[None]] = {}  # cache key -> the task that makes the caption
        self._semaphore = asyncio.Semaphore(MAX_CONCURRENT_CALLS)

    async def read(
        self, catalogue: Catalogue, rows: Sequence[int], provider: str, model: str
    ) -> FoundCaptions:
        """Finds the captions that exist, and begins to make the missing ones.

        Args:
            catalogue: catalogue with the items and the bundle's captions.
            rows: item rows.
            provider: configured name of the ranking model's provider, which makes missing captions too.
            model: the provider's name for the ranking model.
        """
        begun, found = 0, self._bundled(catalogue, rows, provider, model)
        # Keyed by the image's digest: items of the same image share a caption, and a new image gets its own.
        missing = {
            row: _key(digest, captioner_name(provider, model))
            for row in dict.fromkeys(rows)
            if row not in found and (digest := catalogue.items[row].image_sha256)
        }
        if missing:
            cached = await self._cached(missing)
            if cached is not None:
                found |= {row: caption for row, caption in cached.items() if caption}
                wanted = {row: key for row, key in missing.items() if row not in cached}
                begun = self._begin(catalogue, wanted, provider, model)
        return FoundCaptions(found, begun)

    async def close(self) -> None:
        """Cancels the background calls."""
        tasks = list(self._pending.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _bundled(
        self, catalogue: Catalogue, rows: Sequence[int], provider: str, model: str
    ) -> dict[int, str]:
        captions = catalogue.captions
        # The first captioner in this order that has described an item gives its caption.
        names = [self._captioner] if self._captioner else [captioner_name(provider, model), *sorted(captions)]
        found: dict[int, str] = {}
        for name in names:
            described = captions.get(name, {})
            found |= {row: described[row] for row in rows if row in described and row not in found}
        return found

    async def _cached(self, keys: Mapping[int, str]) -> dict[int, str] | None:
        """Item row -> cached caption, empty where one failed recently; None if the cache cannot be read."""
        try:
            values = await self._cache.get_many(list(keys.values()))
        except StoreError:
            self._count("error", len(keys))
            return None  # not a miss: a caption that cannot be cached would be paid for at every request
        found = {
            row: value.decode("utf-8", "replace")
            for row, value in zip(keys, values, strict=True)
            if value is not None
        }
        self._count("hit", len(found))
        self._count("miss", len(keys) - len(found))
        return found

    def _begin(self, catalogue: Catalogue, keys: Mapping[int, str], provider: str, model: str) -> int:
        """Begins to make captions that are not pending yet, up to ``MAX_PENDING``, and returns how many."""
        begun = 0
        for row, key in keys.items():
            if not self._fill or key in self._pending or len(self._pending) >= MAX_PENDING:
                continue
            task = asyncio.create_task(self._make(catalogue, row, key, provider, model))
            self._pending[key] = task
            task.add_done_callback(partial(self._ended, key))
            begun += 1
        return begun

    def _ended(self, key: str, _: asyncio.Task[None]) -> None:
        del self._pending[key]

    async def _make(self, catalogue: Catalogue, row: int, key: str, provider: str, model: str) -> None:
        """Asks the model for one caption and stores it in the cache."""
        async with self._semaphore:
            image = await self._pictures.item(catalogue, row)
            if image is None or not await self._lease(key):
                return
            completion = await self._gateway.call(
                provider,
                caption_call(image, model, self._max_output_tokens),
                CALL_TIMEOUT,
                # Until now: no retries, and no permit or turn is waited for, since no request waits.
                progress=CallProgress(asyncio.get_running_loop().time(), awaited=False),
            )
        if completion.ending in (Ending.LIMIT, Ending.BUDGET):  # no call was made: the next request may try
            return
        caption = caption_of(completion)
        try:
            # A failure is stored as an empty text, so that a bad image is not paid for at every request.
            if caption is None:
                await self._cache.set(key, b"", min(FAILED_TTL, self._ttl))
                return
            await self._cache.set(key, caption.encode(), self._ttl)
        except StoreError:
            self._count("error")
        else:
            self._count("stored")

    async def _lease(self, key: str) -> bool:
        """Takes the lease on a caption; False if another worker has it, or if the store is down.

        The lease is never released: it ends by itself, and until then other workers find the caption, or the
        empty text of a failure, in the cache.
        """
        if self._leases is None:
            return True
        try:
            return await self._leases.take(key, self._holder, CALL_TIMEOUT)
        except StoreError:
            return False  # the cache is most likely down too, and the caption would be lost

    def _count(self, result: str, times: int = 1) -> None:
        self._metrics.cache_events.labels(CACHE, result).inc(times)


def caption_call(image: Image, model: str, max_output_tokens: int) -> Call:
    """Returns the call that asks a model what one image shows.

    Args:
        image: image to describe.
        model: the provider's name for the model.
        max_output_tokens: tokens of the caption at most.
    """
    context = {"strategy": "caption"}
    return Call(caption_prompt(image), model, max_output_tokens, stream=False, context=context)


def caption_of(completion: Completion) -> str | None:
    """Returns the caption in a completion; None unless the call finished and the model ended its answer."""
    return caption_in(completion.text, completion.reason) if completion.ending is Ending.FINISHED else None


def caption_in(text: str, reason: FinishReason | None) -> str | None:
    """Returns the caption in a model's text, cleaned and capped; None for a blank, cut or refused one."""
    return (clean(text, CAPTION_CAP) or None) if reason is FinishReason.STOP else None


def captioner_name(provider: str, model: str) -> str:
    """Returns the captioner's name for a model, which is safe in a file name: only ``[A-Za-z0-9._-]``."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", f"{provider}-{model}").strip(".-")


def _key(digest: str, captioner: str) -> str:
    # Equal images of different items share a caption; a new version of the prompt makes new ones.
    facts = json.dumps([digest, captioner, CAPTION_VERSION])
    return f"caption:{hashlib.sha256(facts.encode()).hexdigest()}"
