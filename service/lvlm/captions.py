"""Captions of item images: from the bundle, else from the cache; others are asked for in the background.

No request waits for a caption to be written: its item is shown by title, and the next request finds the
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

from service.bundle import Catalogue
from service.lvlm.attempt import Ending
from service.lvlm.completion import Completion
from service.lvlm.gateway import Gateway
from service.lvlm.pictures import Pictures
from service.lvlm.progress import CallProgress
from service.lvlm.prompts import CAPTION_CAP, CAPTION_VERSION, caption_prompt, clean
from service.lvlm.providers.base import Call, FinishReason, Image
from service.metrics import Metrics
from service.stores.base import Cache, Leases, StoreError

CACHE = "captions"
"""The label of this cache in the metrics."""

WAITING = 64
"""Images whose captions are under way at which no more are begun; a later request may ask for them again."""

AT_ONCE = 2
"""Calls at a time for captions: they share the provider with requests that are waited for."""

CALL_SECONDS = 60.0
"""Seconds after which a call for a caption is cut."""

FAILED_SECONDS = 300.0
"""Seconds for which an image whose caption failed is not tried again."""


@dataclass(frozen=True, slots=True)
class Found:
    """What there is to show of some items.

    Attributes:
        captions: captions by row.
        begun: number of calls begun in the background for captions that are missing; they are paid like all
            others.
    """

    captions: Mapping[int, str]
    begun: int = 0


class Captions:
    """Captions of one catalogue's items.

    Args:
        catalogue: the items, with the captions that the bundle has.
        pictures: the items' pictures.
        gateway: makes the calls for captions.
        cache: keeps captions that the bundle lacks.
        metrics: counts what the cache did.
        ttl: seconds for which the cache keeps a caption.
        max_output_tokens: cap on a caption.
        captioner: name of the bundle's captioner to use; empty for the asking model's own, and for what it
            has not described the first that has.
        fill: whether missing captions are asked for in the background.
        leases: leases that keep workers from asking for the same caption; None for a single process.
    """

    def __init__(
        self,
        catalogue: Catalogue,
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
        self._catalogue = catalogue
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
        self._permits = asyncio.Semaphore(AT_ONCE)

    async def read(self, rows: Sequence[int], provider: str, model: str) -> Found:
        """Returns the captions that exist for these items, and begins those that do not."""
        begun, found = 0, self._bundled(rows, provider, model)
        # Keyed by the image's digest: items of the same image share a caption, and a new image gets its own.
        missing = {
            row: _key(digest, captioner_name(provider, model))
            for row in dict.fromkeys(rows)
            if row not in found and (digest := self._catalogue.items[row].image_sha256)
        }
        if missing:
            cached = await self._cached(missing)
            if cached is not None:
                found |= {row: caption for row, caption in cached.items() if caption}
                begun = self._begin(
                    {row: key for row, key in missing.items() if row not in cached}, provider, model
                )
        return Found(found, begun)

    async def close(self) -> None:
        """Gives up captions that are being written."""
        tasks = list(self._writing.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _bundled(self, rows: Sequence[int], provider: str, model: str) -> dict[int, str]:
        captions = self._catalogue.captions
        # The first captioner in this order that has described an item gives its caption.
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
            return None  # not a miss: a caption that cannot be kept would be paid for at every request
        found = {
            row: value.decode("utf-8", "replace")
            for row, value in zip(keys, values, strict=True)
            if value is not None
        }
        self._count("hit", len(found))
        self._count("miss", len(keys) - len(found))
        return found

    def _begin(self, keys: Mapping[int, str], provider: str, model: str) -> int:
        """Begin what is not under way, as far as there is room, and say how many."""
        begun = 0
        for row, key in keys.items():
            if not self._fill or key in self._writing or len(self._writing) >= WAITING:
                continue
            task = asyncio.create_task(self._write(row, key, provider, model))
            self._writing[key] = task
            task.add_done_callback(partial(self._written, key))
            begun += 1
        return begun

    def _written(self, key: str, _: asyncio.Task[None]) -> None:
        del self._writing[key]

    async def _write(self, row: int, key: str, provider: str, model: str) -> None:
        async with self._permits:
            image = await self._pictures.item(row)
            if image is None or not await self._ours(key):
                return
            completion = await self._gateway.call(
                provider,
                caption_call(image, model, self._max_output_tokens),
                CALL_SECONDS,
                # Not awaited and over by now: it takes no permit that requests need, and is not retried.
                progress=CallProgress(asyncio.get_running_loop().time(), awaited=False),
            )
        if completion.ending in (Ending.LIMIT, Ending.BUDGET):  # never asked: the next request may try again
            return
        caption = caption_of(completion)
        try:
            if caption is None:
                # Empty for "tried and failed", so that not every request pays for it anew.
                await self._cache.set(key, b"", min(FAILED_SECONDS, self._ttl))
                return
            await self._cache.set(key, caption.encode(), self._ttl)
        except StoreError:
            self._count("error")
        else:
            self._count("stored")

    async def _ours(self, key: str) -> bool:
        """Whether no other worker is at it; after a failure the others may try when the lease ends."""
        if self._leases is None:
            return True
        try:
            return await self._leases.take(key, self._owner, CALL_SECONDS)
        except StoreError:
            return False  # what cannot be kept is not worth paying for

    def _count(self, result: str, times: int = 1) -> None:
        self._metrics.cache_events.labels(CACHE, result).inc(times)


def caption_call(image: Image, model: str, max_output_tokens: int) -> Call:
    """Returns the call that asks what one image shows."""
    context = {"strategy": "caption"}
    return Call(caption_prompt(image), model, max_output_tokens, stream=False, context=context)


def caption_of(completion: Completion) -> str | None:
    """Returns the caption in an answer; None unless it was given to the end."""
    return caption_in(completion.text, completion.reason) if completion.ending is Ending.FINISHED else None


def caption_in(text: str, reason: FinishReason | None) -> str | None:
    """Returns the caption in a model's text; None unless the model came to its end."""
    return (clean(text, CAPTION_CAP) or None) if reason is FinishReason.STOP else None


def captioner_name(provider: str, model: str) -> str:
    """Returns what the captions of this model are called: a file-safe name."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", f"{provider}-{model}").strip(".-")


def _key(digest: str, captioner: str) -> str:
    facts = json.dumps([digest, captioner, CAPTION_VERSION])
    return f"caption:{hashlib.sha256(facts.encode()).hexdigest()}"
