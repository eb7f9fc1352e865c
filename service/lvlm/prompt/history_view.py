"""Decides what a prompt shows of each item of a history: title, caption, picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from service.catalogue.bundle import Catalogue
from service.lvlm.contracts import Shown, StageRequest
from service.lvlm.prompt.item_pictures import HistoryPictures
from service.lvlm.prompt.prompts import Entry


@dataclass(frozen=True, slots=True)
class HistoryView:
    """The items of a history as a prompt shows them.

    Attributes:
        entries: items, oldest first.
        shown: numbers of items that are shown by title, by image and by caption, or lack an image.
    """

    entries: tuple[Entry, ...]
    shown: Shown


def view_history(
    catalogue: Catalogue,
    request: StageRequest,
    history: Sequence[int],
    captions: Mapping[int, str],
    pictured: HistoryPictures | None,
) -> HistoryView:
    """Returns the items of a history as a request wants them shown.

    Args:
        catalogue: catalogue with the items.
        request: request, which names the view and the modality.
        history: item rows, oldest first.
        captions: captions by item row.
        pictured: pictures of the history; None for a server that accepts none, which gets all titles.
    """
    images = len(pictured.cells or ()) if pictured else 0
    # Titles are left out only in the raw view, on request, and not if the pictures cannot be sent either.
    titled = pictured is None or request.strategy.view != "raw" or "title" in request.modality
    entries = tuple(
        Entry(
            title=catalogue.items[row].name if titled else None,
            caption=captions.get(row),
            cell=pictured.cell(position) if pictured else None,
        )
        for position, row in enumerate(history)
    )
    return HistoryView(
        entries,
        Shown(
            titles=len(entries) if titled else 0,
            images=images,
            captions=sum(entry.caption is not None for entry in entries),
            without_image=len(entries) - images if pictured and request.shows_images else 0,
        ),
    )


def without_pictures(shown: Shown, history: Sequence[int]) -> Shown:
    """Returns the numbers of items that the prompt for a server without pictures shows."""
    return Shown(titles=len(history), images=0, captions=shown.captions)
