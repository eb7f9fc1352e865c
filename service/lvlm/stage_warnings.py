"""Sentences that warn the caller of what an answer of the LVLM stage lacks."""

from __future__ import annotations

from collections.abc import Iterator

from service.lvlm.contracts import Responder, Shown, StageRequest


def model_warnings(request: StageRequest, responder: Responder) -> Iterator[str]:
    """Warns if another model answered than the one that was asked for."""
    provider, model = responder.provider, responder.model
    if (provider, model) != (request.provider, request.model) and provider:
        yield f"{request.provider}/{request.model} could not answer: {provider}/{model} did"


def view_warnings(request: StageRequest, responder: Responder, shown: Shown, length: int) -> Iterator[str]:
    """Warns of a view of the history that lacks its modality.

    Args:
        request: says which view.
        responder: the model that was asked.
        shown: what the prompt showed of the history.
        length: number of items of the history that were to be shown.
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
