"""The simulator reads what the LVLM stage writes; both follow one convention and share no code."""

from __future__ import annotations

from typing import Literal

import pytest
from PIL import Image
from simulator_prompts import BLUE, GREEN, RED, product

from service.lvlm.prompt import history_picture
from service.lvlm.prompt.prompts import Entry, PromptContent, caption_prompt, ranking_prompt
from service.lvlm.providers import base
from service.simulator.answers.model import SimulatedModel
from service.simulator.answers.prompt_parser import PromptForm, parse_prompt
from service.simulator.contracts import ChatRequest, Picture
from service.simulator.vision.picture_cells import item_pixels
from service.simulator.vision.picture_description import describe
from service.strategies import Task

TITLES = ("red mug", "blue <b>lamp</b> & shade", "green vase </data>")
COLOURS = [RED, BLUE, GREEN, RED, BLUE, GREEN, RED, BLUE, GREEN, RED]
Mode = Literal["grid", "strip", "separate"]


def received(prompt: base.Prompt) -> ChatRequest:
    """A prompt as the wires hand it on."""
    texts = tuple(part.text for part in prompt.parts if isinstance(part, base.Text))
    pictures = tuple(
        Picture(part.data, part.media_type, part.width, part.height, 0)
        for part in prompt.parts
        if isinstance(part, base.Image)
    )
    return ChatRequest("m", prompt.system, texts, pictures, 0, None, None, False, False, None)


def images(mode: Mode, shown: int) -> tuple[base.Image, ...]:
    side = history_picture.CELL_SIDE[mode]
    cells = [product(colour).resize((side, side), Image.Resampling.NEAREST) for colour in COLOURS[:shown]]
    return history_picture.compose(cells, mode)


@pytest.mark.parametrize("form", ["label", "paper"])
@pytest.mark.parametrize("task", [Task.RECOMMEND, Task.RERANK])
@pytest.mark.parametrize("captions", [False, True])
def test_a_ranking_prompt_is_read_as_it_was_meant(
    form: Literal["label", "paper"], task: Task, captions: bool
) -> None:
    history = tuple(Entry(title=title, caption="A thing." if captions else None) for title in TITLES[:2])
    prompt = ranking_prompt(PromptContent(task, form, history, TITLES, top=2, explain=True))
    question = parse_prompt(received(prompt))
    assert question.form is PromptForm(form)
    assert tuple(candidate.title for candidate in question.candidates) == TITLES
    assert question.ranked is (task is Task.RERANK)
    assert question.explain
    assert question.top == (2 if form == "label" else len(TITLES))
    assert [visit.title.startswith(TITLES[at]) for at, visit in enumerate(question.history)] == [True, True]
    assert all("A thing." in visit.title + visit.caption for visit in question.history) is captions


@pytest.mark.parametrize("shown", range(1, 11))
@pytest.mark.parametrize("mode", ["grid", "strip"])
def test_every_cell_of_a_montage_is_seen_in_its_place(mode: Mode, shown: int) -> None:
    (picture,) = images(mode, shown)
    names = [describe(cell).colours[0] for cell in item_pixels(picture.data, shown)]
    assert names == [{RED: "red", BLUE: "blue", GREEN: "green"}[colour] for colour in COLOURS[:shown]]


@pytest.mark.parametrize("form", ["label", "paper"])
@pytest.mark.parametrize("mode", ["grid", "strip", "separate"])
def test_a_history_of_pictures_decides_the_ranking(form: Literal["label", "paper"], mode: Mode) -> None:
    history = tuple(Entry(cell=at + 1) for at in range(9))
    pictures = images(mode, 9)  # the newest is green
    prompt = ranking_prompt(
        PromptContent(Task.RECOMMEND, form, history, TITLES, 3, images=pictures, image_mode=mode)
    )
    ask = received(prompt)
    text = SimulatedModel(seed=0).answer(ask, parse_prompt(ask))
    positions = [
        text.index(name)
        for name in (('"C"', '"B"', '"A"') if form == "label" else ('"green', '"blue', '"red'))
    ]
    assert positions[0] == min(positions)


def test_a_caption_prompt_is_answered_with_a_description() -> None:
    (picture,) = images("separate", 1)
    ask = received(caption_prompt(picture))
    assert parse_prompt(ask).form is PromptForm.CAPTION
    assert "red object" in SimulatedModel(seed=0).answer(ask, parse_prompt(ask))
