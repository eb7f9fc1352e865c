"""Lists the images of a catalogue that one captioner has not described yet, and writes their captions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from models.contracts.captions import Caption, CaptionFile
from service.captioning.progress import CaptioningProgress
from service.catalogue.bundle import Catalogue
from service.lvlm.captions import caption_call
from service.lvlm.prompt.item_pictures import Pictures
from service.lvlm.prompt.prompts import CAPTION_VERSION
from service.lvlm.prompt.thumbnails import ThumbnailCache
from service.lvlm.providers.base import Call

ImageRows = tuple[int, ...]
"""Item rows that show one and the same image: it is described once, and the caption is written for each."""


class AccountRefusedError(Exception):
    """The provider refuses the key or the account, so that every other call would fail too."""


class StoppedError(Exception):
    """The run ends early; the message says why and how to continue."""


class NoCaptionError(Exception):
    """One image stays without a caption; the message says why."""


@dataclass(frozen=True, slots=True)
class Captioner:
    """A model that describes images.

    Attributes:
        provider: name of a configured provider.
        model: name of one of its models.
        name: stem of the captioner's files in the bundle.
    """

    provider: str
    model: str
    name: str


class Backlog:
    """Lists the images that lack a caption, and records the caption or the failure of each.

    Args:
        catalogue: catalogue with the images.
        latest: captions that exist already, by item id.
        file: caption file to append to; None to write nothing (a dry run).
        captioner: model that describes the images.
        max_output_tokens: tokens that the answer to one call may have, at least 1.

    Attributes:
        captioner: model that describes the images.
        progress: counts, cost and failures of the run.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        latest: Mapping[str, Caption],
        file: CaptionFile | None,
        captioner: Captioner,
        *,
        max_output_tokens: int,
    ) -> None:
        self._catalogue = catalogue
        self._latest = latest
        self._file = file
        self._max_output_tokens = max_output_tokens
        # Each image is read once in a run, so a cache of thumbnails would only take memory.
        self._pictures = Pictures(ThumbnailCache(0))
        self.captioner = captioner
        self.progress = CaptioningProgress(0)

    def pending(self) -> list[ImageRows]:
        """Lists the images without a caption by the current prompt, in the order of their first item.

        An image that is described under one of its items gets the same caption under the others here, without
        a call.
        """
        items = self._catalogue.items
        groups: dict[str, list[int]] = {}
        for row, item in enumerate(items):
            if item.image:
                # Without a digest (a catalogue made by hand) an image counts as different from all others.
                groups.setdefault(item.image_sha256 or item.item_id, []).append(row)
        pending = []
        for rows in groups.values():
            current = {row: caption for row in rows if (caption := self._current(row))}
            missing = tuple(row for row in rows if row not in current)
            if missing and current:
                self._write(missing, next(iter(current.values())).caption)
            elif missing:
                pending.append(missing)
        return pending

    def item_id(self, rows: ImageRows) -> str:
        """Returns the id of an image in journal, submissions and messages: that of its first item."""
        return self._catalogue.items[rows[0]].item_id

    def described(self, item_id: str) -> bool:
        """Returns whether an item has a caption, by this or an earlier version of the prompt."""
        return item_id in self._latest

    async def call(self, rows: ImageRows) -> Call:
        """Makes the call that asks for the caption of an image.

        Raises:
            NoCaptionError: the image cannot be read.
        """
        image = await self._pictures.item(self._catalogue, rows[0])
        if image is None:
            raise NoCaptionError("its image cannot be read")
        return caption_call(image, self.captioner.model, self._max_output_tokens)

    def save(self, rows: ImageRows, text: str) -> None:
        """Writes a caption for all items with the image; it is on the disk when this returns."""
        self._write(rows, text)
        self.progress.written += len(rows)

    def fail(self, rows: ImageRows, reason: object) -> None:
        """Records why an image stays without a caption in this run."""
        self.progress.failures.update({self._catalogue.items[row].item_id: str(reason) for row in rows})

    def close(self) -> None:
        """Ends the threads that read pictures."""
        self._pictures.close()

    def _current(self, row: int) -> Caption | None:
        # A caption by an older prompt stays in use until its image has been described again.
        caption = self._latest.get(self._catalogue.items[row].item_id)
        return caption if caption and caption.prompt_version == CAPTION_VERSION else None

    def _write(self, rows: Sequence[int], text: str) -> None:
        if self._file is None:
            return
        provider, model, items = self.captioner.provider, self.captioner.model, self._catalogue.items
        self._file.append(
            *(Caption(items[row].item_id, provider, model, CAPTION_VERSION, text) for row in rows)
        )
