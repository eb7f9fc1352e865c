"""The images of a catalogue that one captioner has yet to describe, and where the captions go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from models.contracts import Caption
from service.catalogue.bundle import Catalogue
from service.enhance.progress import Progress
from service.lvlm.caption_file import CaptionFile
from service.lvlm.captions import caption_call
from service.lvlm.pictures import Pictures
from service.lvlm.prompts import CAPTION_VERSION
from service.lvlm.providers.base import Call
from service.lvlm.thumbnails import ThumbnailCache

Rows = tuple[int, ...]
"""Item rows that share one image, which is described once."""


class AccountRefusedError(Exception):
    """The provider refuses the key or the account: no other image will do better."""


class StoppedError(Exception):
    """The run ends before its time; the message says why and how to go on."""


class NoCaptionError(Exception):
    """One image has no caption; the message says why."""


@dataclass(frozen=True, slots=True)
class Captioner:
    """Who describes: a model at a provider, and the name of its file in the bundle."""

    provider: str
    model: str
    name: str


class Backlog:
    """What is left to describe.

    Args:
        catalogue: whose images are described.
        latest: the captions that there are, by item id.
        file: where captions go; None to write nothing.
        captioner: who describes.
        max_output_tokens: cap of a caption.

    Attributes:
        progress: of the run.
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
        self._pictures = Pictures(ThumbnailCache(0))
        self.captioner = captioner
        self.progress = Progress(0)

    def waiting(self) -> list[Rows]:
        """Items whose image has no caption by the current prompt, equal images together.

        An image that has a caption under one of its items gets the same under the others, for nothing.
        """
        items = self._catalogue.items
        groups: dict[str, list[int]] = {}
        for row, item in enumerate(items):
            if item.image:
                groups.setdefault(item.image_sha256 or item.item_id, []).append(row)
        waiting = []
        for rows in groups.values():
            current = {row: caption for row in rows if (caption := self._current(row))}
            missing = tuple(row for row in rows if row not in current)
            if missing and current:
                self._write(missing, next(iter(current.values())).caption)
            elif missing:
                waiting.append(missing)
        return waiting

    def item_id(self, rows: Rows) -> str:
        """What such an image is called: the first of its items."""
        return self._catalogue.items[rows[0]].item_id

    def described(self, item_id: str) -> bool:
        """Whether an item has a caption, by whatever prompt."""
        return item_id in self._latest

    async def call(self, rows: Rows) -> Call:
        """What to ask of the model.

        Raises:
            NoCaptionError: there is no picture to show.
        """
        image = await self._pictures.item(self._catalogue, rows[0])
        if image is None:
            raise NoCaptionError("its image cannot be read")
        return caption_call(image, self.captioner.model, self._max_output_tokens)

    def keep(self, rows: Rows, text: str) -> None:
        """Write a caption down for all items that share the image; it is on the disk afterwards."""
        self._write(rows, text)
        self.progress.written += len(rows)

    def fail(self, rows: Rows, reason: object) -> None:
        """Note that an image stays without a caption."""
        self.progress.failures.update({self._catalogue.items[row].item_id: str(reason) for row in rows})

    def close(self) -> None:
        """Stop reading pictures."""
        self._pictures.close()

    def _current(self, row: int) -> Caption | None:
        caption = self._latest.get(self._catalogue.items[row].item_id)
        return caption if caption and caption.prompt_version == CAPTION_VERSION else None

    def _write(self, rows: Sequence[int], text: str) -> None:
        if self._file is None:
            return
        captioner = self.captioner
        for row in rows:
            item_id = self._catalogue.items[row].item_id
            self._file.append(Caption(item_id, captioner.provider, captioner.model, CAPTION_VERSION, text))
