"""Writes the sentences that warn a client of what an answer of the LVLM stage lacks."""

from __future__ import annotations

from collections.abc import Iterator

from service.lvlm.contracts import Responder, Shown, StageRequest


def model_warnings(request: StageRequest, responder: Responder) -> Iterator[str]:
    """Yields a warning if another model answered than the one that the request names."""
    provider, model = responder.provider, responder.model
    if (provider, model) != (request.provider, request.model) and provider:
        yield f"{request.provider}/{request.model} could not answer: {provider}/{model} did"


def view_warnings(request: StageRequest, responder: Responder, shown: Shown, length: int) -> Iterator[str]:
    """Yields a warning if the prompt lacked captions or images that the request asked for.

    Args:
        request: request, which names the view and the modality.
        responder: model that was asked.
        shown: numbers of items that the prompt showed.
        length: number of the history's items that were to be shown, at least 1.
    """
    if request.strategy.view == "enhanced":
        bare = length - shown.captions
        if shown.captions == 0:
            yield "no captions: the history is shown by title alone"
        elif bare:
            yield f"{bare} items of the history have no caption yet and are shown by title"
    elif "image" in request.modality:
        bare = length - shown.images
        if responder.blind:
            yield f"no images: {responder.provider}/{responder.model} takes none, {_TITLES}"
        elif shown.images == 0:
            yield "no images: none of the history's items has a readable image"
        elif bare:
            yield f"{bare} items of the history have no readable image"


_TITLES = "so the history is shown by title alone"
