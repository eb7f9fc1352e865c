"""Answers a request: reads it, looks at its pictures, ranks or describes, and writes the text."""

from __future__ import annotations

import json
from collections.abc import Sequence

from service.simulator.answers import structured_output
from service.simulator.answers.prompt_parser import Form, Question
from service.simulator.answers.ranking import Verdict, rank
from service.simulator.contracts import Ask, Picture
from service.simulator.vision.description import Look
from service.simulator.vision.description_cache import Eyes
from service.simulator.vision.picture_cells import count_items

MARK = "Simulated answer:"

_NOTHING_ASKED = (
    f"{MARK} this simulator ranks candidates and describes pictures; the prompt holds neither a readable "
    "list of candidates nor a picture to describe."
)


class Answerer:
    """Writes answers; the same request and seed give the same text.

    To be used by one thread: looking is many small steps in Python, and several threads at it hinder each
    other.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._eyes = Eyes()

    def answer(self, ask: Ask, question: Question) -> str:
        """Write the answer to a request.

        Raises:
            BrokenPictureError: a picture is broken behind its header.
        """
        match question.form:
            case Form.LABEL | Form.PAPER:
                looks = self._look_at(ask.pictures, question)
                return _ranking(ask, question, rank(question, looks, self._seed), looks)
            case Form.CAPTION:
                text = " ".join(
                    seen.sentence for picture in ask.pictures for seen in self._eyes.see(picture.data, 1)
                )
            case Form.CHAT:
                text = _NOTHING_ASKED
        if ask.schema is None:
            return text
        return json.dumps(
            structured_output.fit(ask.schema, {"text": text, "caption": text, "description": text})
        )

    def _look_at(self, pictures: tuple[Picture, ...], question: Question) -> tuple[Look, ...]:
        if len(pictures) == 1:
            return self._eyes.see(pictures[0].data, _items_shown(pictures[0], question))
        return tuple(seen for picture in pictures for seen in self._eyes.see(picture.data, 1))


def _ranking(ask: Ask, question: Question, verdict: Verdict, looks: Sequence[Look]) -> str:
    names = [question.candidates[position].name for position in verdict.order[: question.top]]
    why = _explanation(question, verdict, looks)
    if question.form is Form.PAPER:
        proposal: dict[str, object] = {"explanation": why, "recommendations": names}
    else:
        proposal = {"ranking": names, **({"explanation": why} if question.explain else {})}
    if ask.schema is not None:
        proposal = structured_output.fit(ask.schema, proposal)
    return json.dumps(proposal, ensure_ascii=False)


def _explanation(question: Question, verdict: Verdict, looks: Sequence[Look]) -> str:
    best = question.candidates[verdict.order[0]]
    shared = ", ".join(verdict.evidence[:4])
    reasons = f"shares “{shared}” with the history" if shared else "shares no word with the history"
    text = f"{MARK} {best.title or best.name} comes first because it {reasons}"
    if question.ranked:
        text += ", and the order shown counted too"
    if any(seen.colours for seen in looks):
        colours = list(dict.fromkeys(name for seen in reversed(looks) for name in seen.colours[:1]))
        text += f". The pictures, newest first, show mainly {', '.join(colours[:3])}"
    return f"{text}."


def _items_shown(picture: Picture, question: Question) -> int:
    if question.form is Form.LABEL:  # cells are numbered, so the pictured items are known
        return sum(visit.pictured for visit in question.history) or 1
    return count_items(picture.width, picture.height, len(question.history))
