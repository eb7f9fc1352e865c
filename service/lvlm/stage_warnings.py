"""What an answer of the LVLM stage must say of itself in plain words."""

from __future__ import annotations

from collections.abc import Iterator

from service.lvlm.contracts import Shown, StageRequest
from service.lvlm.gateway import Completion


def model_warnings(request: StageRequest, completion: Completion) -> Iterator[str]:
    """Another model answered than the one that was asked for."""
    provider, model = completion.provider, completion.model
    if (provider, model) != (request.provider, request.model) and provider:
        yield f"{request.provider}/{request.model} could not answer: {provider}/{model} did"


def view_warnings(request: StageRequest, completion: Completion, shown: Shown, length: int) -> Iterator[str]:
    """A view of the history that lacks its modality.

    Args:
        request: says which view.
        completion: who was asked.
        shown: of the history.
        length: of the history.
    """
    if request.strategy.view == "enhanced":
        bare = length - shown.captions
        if shown.captions == 0:
            yield "no captions: the history is shown by title alone"
        elif bare:
            yield f"{bare} items of the history have no caption yet and are shown by title"
    elif "image" in request.modality:
        bare = length - shown.images
        if completion.blind:
            yield f"no images: {completion.provider}/{completion.model} takes none, {_TITLES}"
        elif shown.images == 0:
            yield "no images: none of the history's items has a readable image"
        elif bare:
            yield f"{bare} items of the history have no readable image"


_TITLES = "so the history is shown by title alone"
