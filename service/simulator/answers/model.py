"""Simulates a model: describes the pictures of a request, ranks its candidates and writes the answer."""

from __future__ import annotations

import json
from collections.abc import Sequence

from service.simulator.answers import structured_output
from service.simulator.answers.prompt_parser import ParsedPrompt, PromptForm
from service.simulator.answers.ranking import Ranking, rank
from service.simulator.contracts import ChatRequest, Picture
from service.simulator.vision.description_cache import CachedDescriber
from service.simulator.vision.picture_cells import count_items
from service.simulator.vision.picture_description import Description

ANSWER_PREFIX = "Simulated answer:"
"""Beginning of every explanation and every answer to a chat, so that none is taken for a real model's."""

_CHAT_ANSWER = (
    f"{ANSWER_PREFIX} this simulator ranks candidates and describes pictures; the prompt holds neither a "
    "readable list of candidates nor a picture to describe."
)


class SimulatedModel:
    """Writes answers; the same request and seed give the same text.

    Not safe for several threads at once.

    Args:
        seed: seed that breaks ties between equal candidates.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._describer = CachedDescriber()

    def answer(self, request: ChatRequest, prompt: ParsedPrompt) -> str:
        """Writes the answer to a request.

        Raises:
            BrokenPictureError: the pixels of a picture cannot be decoded.
        """
        match prompt.form:
            case PromptForm.LABEL | PromptForm.PAPER:
                descriptions = self._describe(request.pictures, prompt)
                return _write_ranking(request, prompt, rank(prompt, descriptions, self._seed), descriptions)
            case PromptForm.CAPTION:
                text = " ".join(description.sentence for description in self._describe_each(request.pictures))
            case PromptForm.CHAT:
                text = _CHAT_ANSWER
        if request.schema is None:
            return text
        # A schema may call the text by any of these names; `fit` keeps those that it has.
        return json.dumps(
            structured_output.fit(request.schema, {"text": text, "caption": text, "description": text})
        )

    def _describe(self, pictures: tuple[Picture, ...], prompt: ParsedPrompt) -> tuple[Description, ...]:
        """Describes the items of the history that are shown; a single picture may show several."""
        if len(pictures) == 1:
            return self._describer.describe(pictures[0].data, _items_shown(pictures[0], prompt))
        return self._describe_each(pictures)

    def _describe_each(self, pictures: tuple[Picture, ...]) -> tuple[Description, ...]:
        """Describes pictures that show one item each."""
        return tuple(self._describer.describe(picture.data, items=1)[0] for picture in pictures)


def _write_ranking(
    request: ChatRequest, prompt: ParsedPrompt, ranking: Ranking, descriptions: Sequence[Description]
) -> str:
    names = [prompt.candidates[position].name for position in ranking.order[: prompt.top]]
    why = _explanation(prompt, ranking, descriptions)
    if prompt.form is PromptForm.PAPER:
        # The paper's form explains first and ranks then; a label prompt has the ranking first.
        proposal: dict[str, object] = {"explanation": why, "recommendations": names}
    else:
        proposal = {"ranking": names, **({"explanation": why} if prompt.explain else {})}
    if request.schema is not None:
        proposal = structured_output.fit(request.schema, proposal)
    return json.dumps(proposal, ensure_ascii=False)


def _explanation(prompt: ParsedPrompt, ranking: Ranking, descriptions: Sequence[Description]) -> str:
    best = prompt.candidates[ranking.order[0]]
    shared = ", ".join(ranking.shared_words[:4])
    reasons = f"shares “{shared}” with the history" if shared else "shares no word with the history"
    text = f"{ANSWER_PREFIX} {best.title or best.name} comes first because it {reasons}"
    if prompt.ranked:
        text += ", and the order shown counted too"
    if any(description.colours for description in descriptions):
        main = (name for description in reversed(descriptions) for name in description.colours[:1])
        colours = list(dict.fromkeys(main))  # each once, newest first
        text += f". The pictures, newest first, show mainly {', '.join(colours[:3])}"
    return f"{text}."


def _items_shown(picture: Picture, prompt: ParsedPrompt) -> int:
    """Counts the items of the history that one picture shows."""
    if prompt.form is PromptForm.LABEL:  # cells are numbered, so the pictured items are known
        return sum(item.pictured for item in prompt.history) or 1
    return count_items(picture.width, picture.height, len(prompt.history))
