"""Captions of item images: from the bundle, else from the cache; others are asked for in the background.

No request ever waits for a caption to be written: its item is shown by title, and the next visit finds the
caption.
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
from service.lvlm.gateway import Completion, Ending, Gateway
from service.lvlm.pictures import Pictures
from service.lvlm.progress import Progress
from service.lvlm.prompts import CAPTION_CAP, CAPTION_VERSION, caption_prompt, clean
from service.lvlm.providers.base import Call, FinishReason, Image
from service.metrics import Metrics
from service.stores.base import Cache, Leases, StoreError

CACHE = "captions"
WAITING = 64  # images; beyond that a request's wish is dropped, and the next visit may wish again
AT_ONCE = 2  # background calls: they share the provider with people who wait
CALL_SECONDS = 60.0
FAILED_SECONDS = 300.0  # for which an image whose caption failed is not tried again


@dataclass(frozen=True, slots=True)
class Found:
    """What there is to show of some items.

    Attributes:
        captions: row -> caption.
        begun: calls begun in the background for captions that are missing; they are paid like all others.
    """

    captions: Mapping[int, str]
    begun: int = 0


class Captions:
    """Captions of items, each of the catalogue that a request reads.

    Args:
        captioner: which of the bundle's captioners to use; empty for the asking model's own, and for what it
            has not described the first that has.
        fill: whether missing captions are asked for in the background.
        leases: keep workers from asking for the same caption; None for a single process.
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
        self._owner = uuid.uuid4().hex
        self._writing: dict[str, asyncio.Task[None]] = {}
        self._places = asyncio.Semaphore(AT_ONCE)

    async def read(self, catalogue: Catalogue, rows: Sequence[int], provider: str, model: str) -> Found:
        """The captions that exist for these items; those that do not are begun."""
        begun, found = 0, self._bundled(catalogue, rows, provider, model)
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
        return Found(found, begun)

    async def close(self) -> None:
        """Give up on captions that are being written."""
        tasks = list(self._writing.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _bundled(
        self, catalogue: Catalogue, rows: Sequence[int], provider: str, model: str
    ) -> dict[int, str]:
        captions = catalogue.captions
        names = [self._captioner] if self._captioner else [captioner_name(provider, model), *sorted(captions)]
        found: dict[int, str] = {}
        for name in names:
            described = captions.get(name, {})
            found |= {row: described[row] for row in rows if row in described and row not in found}
        return found

    async def _cached(self, keys: Mapping[int, str]) -> dict[int, str] | None:
        """What the cache holds; an empty caption is one that failed not long ago; None if it cannot say."""
        try:
            values = await self._cache.get_many(list(keys.values()))
        except StoreError:
            self._count("error", len(keys))
            return None  # not a miss: paying for captions that cannot be kept helps nobody
        found = {
            row: value.decode("utf-8", "replace")
            for row, value in zip(keys, values, strict=True)
            if value is not None
        }
        self._count("hit", len(found))
        self._count("miss", len(keys) - len(found))
        return found

    def _begin(self, catalogue: Catalogue, keys: Mapping[int, str], provider: str, model: str) -> int:
        """Begin what is not under way, as far as there is room, and say how many."""
        begun = 0
        for row, key in keys.items():
            if not self._fill or key in self._writing or len(self._writing) >= WAITING:
                continue
            task = asyncio.create_task(self._write(catalogue, row, key, provider, model))
            self._writing[key] = task
            task.add_done_callback(partial(self._written, key))
            begun += 1
        return begun

    def _written(self, key: str, _: asyncio.Task[None]) -> None:
        del self._writing[key]

    async def _write(self, catalogue: Catalogue, row: int, key: str, provider: str, model: str) -> None:
        async with self._places:
            image = await self._pictures.item(catalogue, row)
            if image is None or not await self._ours(key):
                return
            completion = await self._gateway.call(
                provider,
                caption_call(image, model, self._max_output_tokens),
                CALL_SECONDS,
                progress=Progress(asyncio.get_running_loop().time(), awaited=False),
            )
        if completion.ending in (Ending.LIMIT, Ending.BUDGET):  # never asked: the next visit may try again
            return
        caption = caption_of(completion)
        try:
            if caption is None:
                await self._cache.set(key, b"", min(FAILED_SECONDS, self._ttl))
                return
            await self._cache.set(key, caption.encode(), self._ttl)
        except StoreError:
            self._count("error")
        else:
            self._count("stored")

    async def _ours(self, key: str) -> bool:
        """Whether no other worker is at it; who gave up on it lets the others try when the lease ends."""
        if self._leases is None:
            return True
        try:
            return await self._leases.take(key, self._owner, CALL_SECONDS)
        except StoreError:
            return False  # what cannot be kept is not worth paying for

    def _count(self, result: str, times: int = 1) -> None:
        self._metrics.cache_events.labels(CACHE, result).inc(times)


def caption_call(image: Image, model: str, max_output_tokens: int) -> Call:
    """The question what one image shows."""
    context = {"strategy": "caption"}
    return Call(caption_prompt(image), model, max_output_tokens, stream=False, context=context)


def caption_of(completion: Completion) -> str | None:
    """The caption in an answer; None unless it was given to the end."""
    return caption_in(completion.text, completion.reason) if completion.ending is Ending.FINISHED else None


def caption_in(text: str, reason: FinishReason | None) -> str | None:
    """The caption in a model's text; None unless the model came to its end."""
    return (clean(text, CAPTION_CAP) or None) if reason is FinishReason.STOP else None


def captioner_name(provider: str, model: str) -> str:
    """What the captions of this model are called: a file-safe name."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", f"{provider}-{model}").strip(".-")


def _key(digest: str, captioner: str) -> str:
    facts = json.dumps([digest, captioner, CAPTION_VERSION])
    return f"caption:{hashlib.sha256(facts.encode()).hexdigest()}"
