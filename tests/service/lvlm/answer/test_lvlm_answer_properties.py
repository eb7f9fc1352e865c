"""Properties of the parser for every text: distinct pool positions, and a bounded number of steps."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import FrameType

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from parsed_answers import complete_answer, parse_labels, parse_titles

from service.lvlm.answer.entries import Candidates
from service.lvlm.answer.parser import MAX_TEXT, certain_prefix
from service.lvlm.contracts import ParsedAnswer
from service.lvlm.prompt.prompts import label

NAMES = [f"Item number {number}" for number in range(60)]

PIECES = st.sampled_from(
    [
        *(
            "{",
            "}",
            "[",
            "]",
            '"',
            "'",
            ",",
            ":",
            " ",
            "\n",
            "\\",
            "…",
            "“",
            "”",
            "```",
            "```json\n",
            "\ufeff",
        ),
        *("<think>", "</think>", "[THINK]", "<answer>", "</answer>", "<|im_end|>", "\\boxed{"),
        *(
            '{"ranking": [',
            '"ranking": [',
            '"recommendations": [',
            '{"order": [',
            '"explanation": "',
            '"label": ',
        ),
        *("A", "b", "AA", "ZZ", "0", "1", "2", "99", "null", '"A"', "'B'", '"C", ', "[D]", "**E**"),
        *(
            " > ",
            "≻",
            "1. ",
            "2) ",
            "3: ",
            "\n1. A\n2. B",
            "- ",
            "Item number 3",
            '"Item number 4"',
            "and",
            "not",
        ),
    ]
)
TEXTS = st.one_of(st.lists(PIECES, max_size=40).map("".join), st.text(max_size=80))


def check(answer: ParsedAnswer, asked: int) -> None:
    assert len(set(answer.order)) == len(answer.order)
    assert set(answer.order) <= set(range(len(NAMES)))
    assert answer.missing == max(0, asked - len(answer.order))
    assert min(answer.invented, answer.duplicated) >= 0
    assert answer.order or answer.explanation is None


@given(TEXTS)
@example("\ud800{'ranking': ['\ud800']}")
@example('{"ranking": [' + "9" * 5_000 + "]}")
@example('{"ranking": [1e999, NaN, -Infinity, -3, 1.5]}')
def test_any_text_gives_different_items_of_the_pool(text: str) -> None:
    check(parse_labels(text, NAMES, 10), 10)
    check(parse_titles(text, NAMES), len(NAMES))


@given(TEXTS)
@example("A > b > {")
def test_what_is_complete_has_every_item_that_was_asked_for(text: str) -> None:
    if complete_answer(text, NAMES, 2, "label"):
        assert parse_labels(text, NAMES, 2).missing == 0


@given(st.permutations(range(60)), st.sampled_from([" > ", " ≻ ", ">", "] > ["]))
def test_a_chain_of_all_labels_is_their_order(order: list[int], sign: str) -> None:
    assert parse_labels(f"[{sign.join(map(label, order))}]", NAMES, 60).order == tuple(order)


# --- work -------------------------------------------------------------------------------------------------

UNITS = [
    *(
        "[",
        "{",
        "[[",
        "[{",
        "{A:",
        "[9",
        "[9,",
        '["',
        "['",
        "[' ",
        "{“",
        "{\\",
        "“",
        '"',
        "'",
        "\\",
        "`",
        "```",
    ),
    *('{"ranking": [', '{"ranking": ["A", ', '{"ranking":["A"]} ', '"ranking": ["A"] ', '{"order": ["A"]} '),
    *("1. ", "1. A\n", "1. x\n", "1. A 2. B ", "2. A\n", "1. Item number 3 and more - x: y - z – w\n"),
    *("A > ", ">", ">\n", "> ", "A\n>", "C > A > B\n", "Item number 3 > ", "A,", "A, ", "- A\n", "**", "* "),
    *(
        "<think>",
        "</think>",
        "<answer>",
        "<|",
        "\\boxed{",
        " ",
        "\n",
        "\r",
        "\u2028",
        "\ufeff",
        "a",
        "é",
        "[A]\n",
    ),
]
LENGTH = MAX_TEXT // 4
"""Characters of a text: enough for work that grows with their square to pass the bounds by far."""
WAYS: list[Callable[[str], str]] = [
    lambda unit: unit * (LENGTH // len(unit)),
    lambda unit: '{"ranking": ["A", ' + unit * (LENGTH // len(unit)) + '"]}',
    lambda unit: " " * (LENGTH // 2) + unit * (LENGTH // 2 // len(unit)),
]
STEPS = 10 * MAX_TEXT
SECONDS = 1.5
"""Processor seconds for one text, ten times what the slowest takes.

A bound of its own, since time inside of a regular expression shows in no count of calls.
"""


@pytest.mark.parametrize("unit", UNITS)
def test_endless_repetition_takes_a_bounded_number_of_steps(unit: str) -> None:
    for way in WAYS:
        text = way(unit)
        began = time.process_time()
        parse_titles(text, NAMES)
        certain_prefix(text, Candidates(NAMES, "label"))
        assert time.process_time() - began < SECONDS
        assert steps(lambda text=text: complete_answer(text, NAMES, 10, "label")) < STEPS  # type: ignore[misc]


def steps(work: Callable[[], object]) -> int:
    """Counts the function calls of some work."""
    count = 0

    def watch(frame: FrameType, event: str, argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(watch)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count
