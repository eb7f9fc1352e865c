"""What a prompt shows of a history: titles, captions, pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from service.catalogue.bundle import Catalogue
from service.lvlm.contracts import Shown, StageRequest
from service.lvlm.prompt.item_pictures import Pictured
from service.lvlm.prompt.prompts import Entry


@dataclass(frozen=True, slots=True)
class HistoryView:
    """What a prompt shows of a history.

    Attributes:
        entries: items, oldest first.
        shown: number of them that show a title, an image, a caption.
    """

    entries: tuple[Entry, ...]
    shown: Shown


def view_history(
    catalogue: Catalogue,
    request: StageRequest,
    history: Sequence[int],
    captions: Mapping[int, str],
    pictured: Pictured | None,
) -> HistoryView:
    """Returns what a request wants shown of a history.

    Args:
        catalogue: the items.
        request: says which view.
        history: rows, oldest first.
        captions: captions by row.
        pictured: pictures of the history; None for a server that takes none, which is shown the titles in any
            case.
    """
    # Only the raw view can be asked for without titles, and never where its pictures cannot be sent.
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
            images=len(pictured.cells or ()) if pictured else 0,
            captions=sum(entry.caption is not None for entry in entries),
        ),
    )


def without_pictures(shown: Shown, history: Sequence[int]) -> Shown:
    """Returns what the prompt for a server that takes no pictures shows of a history."""
    return Shown(titles=len(history), images=0, captions=shown.captions)
