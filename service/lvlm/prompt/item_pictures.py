"""Pictures of catalogue items for a prompt, made in threads so that they never hold up the event loop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from PIL import Image as Pillow

from service.catalogue.bundle import Catalogue
from service.lvlm.contracts import ImageMode
from service.lvlm.prompt import history_picture
from service.lvlm.prompt.thumbnails import ThumbnailCache, UnreadableImageError
from service.lvlm.providers.base import Image

log = logging.getLogger(__name__)

THREADS = 2
"""Threads that make pictures of histories; further requests queue for them."""


@dataclass(frozen=True, slots=True)
class Pictured:
    """Pictures of a history.

    Attributes:
        images: encoded pictures; none if no item can be shown.
        cells: cell numbers from 1 by position in the history; an item that cannot be shown has none.
    """

    images: tuple[Image, ...] = ()
    cells: Mapping[int, int] | None = None

    def cell(self, position: int) -> int | None:
        """Returns the cell of the item at this position of the history; None if it cannot be shown."""
        return (self.cells or {}).get(position)


class Pictures:
    """Makes pictures of items, each of the catalogue that a request reads.

    Args:
        thumbnails: images made small before.
    """

    def __init__(self, thumbnails: ThumbnailCache) -> None:
        self._thumbnails = thumbnails
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="pictures")
        # Pictures to be described are decoded at full size, and no request waits for them.
        self._large = ThreadPoolExecutor(1, thread_name_prefix="large-pictures")
        self._queued = 0

    async def history(
        self,
        catalogue: Catalogue,
        rows: Sequence[int],
        mode: ImageMode,
        wanted: Callable[[], bool] = lambda: True,
    ) -> Pictured:
        """Makes the pictures of a history; items without a readable image are left out.

        Args:
            catalogue: catalogue with the items.
            rows: rows of the items, oldest first.
            mode: whether to make one picture or many.
            wanted: tells, when their turn comes, whether a request still waits for them; if not, they are not
                made while others wait.

        Raises:
            TimeoutError: they were not wanted any more.
        """
        self._queued += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(
                self._threads, self._history, catalogue, tuple(rows), mode, wanted
            )
        finally:
            self._queued -= 1

    async def item(self, catalogue: Catalogue, row: int) -> Image | None:
        """Returns the picture of one item, large enough to be described; None if there is none to read."""
        return await asyncio.get_running_loop().run_in_executor(self._large, self._item, catalogue, row)

    def close(self) -> None:
        """Stops the threads."""
        for threads in (self._threads, self._large):
            threads.shutdown(wait=True, cancel_futures=True)

    def _history(
        self, catalogue: Catalogue, rows: tuple[int, ...], mode: ImageMode, wanted: Callable[[], bool]
    ) -> Pictured:
        # With a thread to spare it is made all the same: it holds up no other request.
        if self._queued > THREADS and not wanted():
            raise TimeoutError
        thumbnails, cells = [], {}
        for position, row in enumerate(rows):
            thumbnail = self._thumbnail(catalogue, row, history_picture.CELL_SIDE[mode])
            if thumbnail is not None:
                thumbnails.append(thumbnail)
                cells[position] = len(thumbnails)
        return Pictured(history_picture.compose(thumbnails, mode), cells) if thumbnails else Pictured()

    def _item(self, catalogue: Catalogue, row: int) -> Image | None:
        thumbnail = self._thumbnail(catalogue, row, history_picture.CAPTION_SIDE)
        return history_picture.encode(thumbnail) if thumbnail is not None else None

    def _thumbnail(self, catalogue: Catalogue, row: int, side: int) -> Pillow.Image | None:
        path = catalogue.image_path(row)
        if path is None:
            return None
        # Bundles without digests fall back to the path, which is stable while the service runs.
        digest = catalogue.items[row].image_sha256 or str(path)
        try:
            return self._thumbnails.get(path, digest, side)
        except UnreadableImageError as error:
            log.warning("an item image is not shown: %s", error)
            return None
