"""Makes the pictures of catalogue items for prompts, in threads, so that the event loop is never blocked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from PIL import Image as Pillow

from service.catalogue.bundle import Catalogue
from service.lvlm.contracts import ImageMode
from service.lvlm.prompt import history_picture
from service.lvlm.prompt.thumbnails import ThumbnailCache, UnreadableImageError
from service.lvlm.providers.base import Image

THREADS = 2
"""Threads that make pictures of histories; further requests are queued."""


@dataclass(frozen=True, slots=True)
class HistoryPictures:
    """The pictures of a history.

    Attributes:
        images: encoded pictures; empty if no item has a readable image.
        cells: cell numbers, from 1, by position in the history, from 0; items without a readable image are
            left out.
    """

    images: tuple[Image, ...] = ()
    cells: Mapping[int, int] | None = None

    def cell(self, position: int) -> int | None:
        """Returns the cell of the item at this position of the history; None without a readable image."""
        return (self.cells or {}).get(position)


class Pictures:
    """Makes pictures of items of any catalogue.

    Args:
        thumbnails: cache of thumbnails, used by all threads.
    """

    def __init__(self, thumbnails: ThumbnailCache) -> None:
        self._thumbnails = thumbnails
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="pictures")
        # Pictures for captions are decoded at full size; in a thread of their own they delay no request.
        self._large = ThreadPoolExecutor(1, thread_name_prefix="large-pictures")
        self._queued = 0  # histories that are being made or wait for a thread

    async def history(
        self,
        catalogue: Catalogue,
        rows: Sequence[int],
        mode: ImageMode,
        wanted: Callable[[], bool] = lambda: True,
    ) -> HistoryPictures:
        """Makes the pictures of a history; items without a readable image are left out.

        Args:
            catalogue: catalogue with the items.
            rows: rows of the items, oldest first.
            mode: arrangement of the pictures.
            wanted: function that tells whether a request still waits for them, called once a thread is free,
                from that thread. Pictures that are not wanted are not made while others are queued.

        Raises:
            TimeoutError: the pictures were not wanted any more.
        """
        self._queued += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(
                self._threads, self._history, catalogue, tuple(rows), mode, wanted
            )
        finally:
            self._queued -= 1

    async def item(self, catalogue: Catalogue, row: int) -> Image | None:
        """Returns the picture of one item for a caption; None if the item has no readable image."""
        return await asyncio.get_running_loop().run_in_executor(self._large, self._item, catalogue, row)

    def close(self) -> None:
        """Stops the threads, once they have finished what they are doing."""
        for threads in (self._threads, self._large):
            threads.shutdown(wait=True, cancel_futures=True)

    def _history(
        self, catalogue: Catalogue, rows: tuple[int, ...], mode: ImageMode, wanted: Callable[[], bool]
    ) -> HistoryPictures:
        # While a thread is free, unwanted pictures are made all the same: the answer to them can be cached.
        if self._queued > THREADS and not wanted():
            raise TimeoutError
        thumbnails, cells = [], {}
        for position, row in enumerate(rows):
            thumbnail = self._thumbnail(catalogue, row, history_picture.CELL_SIDE[mode])
            if thumbnail is not None:
                thumbnails.append(thumbnail)
                cells[position] = len(thumbnails)
        if not thumbnails:
            return HistoryPictures()
        return HistoryPictures(history_picture.compose(thumbnails, mode), cells)

    def _item(self, catalogue: Catalogue, row: int) -> Image | None:
        thumbnail = self._thumbnail(catalogue, row, history_picture.CAPTION_SIDE)
        return history_picture.encode(thumbnail) if thumbnail is not None else None

    def _thumbnail(self, catalogue: Catalogue, row: int, side: int) -> Pillow.Image | None:
        item = catalogue.items[row]
        if item.image is None:
            return None
        # Without a digest the name serves as key, for as long as this version of the bundle is served.
        digest = item.image_sha256 or f"{catalogue.version}:{item.image}"
        try:
            return self._thumbnails.get(lambda: catalogue.image(row), digest, side)
        except UnreadableImageError as error:
            catalogue.images.note(item, str(error))
            return None
