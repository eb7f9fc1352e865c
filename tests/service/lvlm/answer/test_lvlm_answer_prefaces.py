"""Words around a listing decide whether it is the ranking: an announced one is, a mentioned one is not."""

from __future__ import annotations

import pytest
from parsed_answers import complete_answer, parse_labels, parse_titles

NAMES = [f"Item number {number}" for number in range(30)]
KEYED = '{"ranking": ["C", "A", "B"]}'
BARE = '["C", "A", "B"]'

MENTIONED = [
    f"Example output: {KEYED}\nI am sorry, I cannot help.",
    f"Example output:\n{KEYED}",
    f"For example, e.g. {KEYED}",
    f"The format is {KEYED}, but I cannot do it.",
    f"The format is {KEYED}.",
    f"Candidates: {KEYED}",
    f"Return JSON like {KEYED} with the labels, best first.",
    f"You asked me to respond with: {KEYED}",
    f"Sure!\n```json\n{KEYED}\n```\nSorry, I can't do that.",
    'The format is {"order": ["C", "A", "B"]}, best first.',
    'Here is an example: {"order": ["C", "A", "B"]}',
    f"Error: {BARE} invalid",
    f"I can choose from {BARE}.",
    f"Available labels: {BARE}",
    f"Here are the available labels:\n{BARE}",
    f"{BARE}\nI refuse.",
]

OTHERWISE_INTRODUCED = [
    "Candidates: A, B, C",
    "Options:\nA\nB\nC",
    "Please choose between: A, B, C",
    "You asked me to rank: A, B, C",
    "Candidates to rank: A, B, C",
    "Sorry: C, A, B",
    "Excluded: C, A, B",
    "Excluded from the ranking: C, A, B",
    "Items to avoid: C, A, B",
    "None of these: C, A, B",
    "Least likely: C, A, B",
    "Least likely: C > A > B",
    "Candidates:\nC > A > B",
    "Candidates:\n1. C\n2. A\n3. B",
    "## Candidates\n1. C\n2. A\n3. B",
    "Thought: C > A > B\nAnswer: I refuse",
    "Thought: C > A > B",
    "C > A > B\nBut I won't rank them.",
    "1. C\n2. A\n3. B\nI am unable to say more.",
    "Let me look at each:\n1. A: blue, no\n2. B: red, no\n3. C: yes\nI cannot decide.",
    "Let me look at each:\n1. A: blue, no\n2. B: red, no\n3. C: yes",
    '{"labels":["A","B","C"]}',
    '{"items":["A","B","C"]}',
    "Phone: 1, 2, 3",
    "10, 20, 30",
    "x > y > z",
    "a > b > c",
]

ANNOUNCED = [
    f"Sure! {KEYED}",
    f"Here is the ranking:\n{KEYED}",
    f"Here you go:\n```json\n{KEYED}\n```\nI hope this helps!",
    f"Here is the JSON: {KEYED}",
    f"The user has no cups. {KEYED} They are blue.",
    f"{KEYED}\nI am sorry, I cannot say more.",
    f"Based on what I see, the user would like these:\n{KEYED}",
    f"Output in the requested format:\n{KEYED}",
    f"Here's the ranked list of candidates you asked for:\n{KEYED}",
    f"JSON:\n{KEYED}",
    f"My answer: {BARE}",
    "Ranking (best to worst): C > A > B",
    "From most to least likely:\n1. C\n2. A\n3. B",
    "Sure: C, A, B",
    "Top 3: C, A, B",
    "Best first:\nC\nA\nB",
    "Recommended order: 3, 1, 2",
    "Ranking of the candidates:\n1. C\n2. A\n3. B",
    "Most likely to be bought:\n1. C\n2. A\n3. B\nThe first can't break.",
]

UNDERSTOOD = [
    '{"ranking":["Item C","Item A","Item B"]}',
    '{"ranking":[3.0,1.0,2.0]}',
    "The final answer is C > A > B",
    "<ranking>C > A > B</ranking>",
    "\\boxed{C, A, B}",
    "Ranking: c > a > b",
]


@pytest.mark.parametrize("text", [*MENTIONED, *OTHERWISE_INTRODUCED])
def test_a_listing_that_is_not_given_as_the_ranking_is_no_answer(text: str) -> None:
    assert parse_labels(text, NAMES, 3).order == ()


@pytest.mark.parametrize("text", [*ANNOUNCED, *UNDERSTOOD])
def test_a_listing_that_is_given_as_the_ranking_is_the_answer(text: str) -> None:
    answer = parse_labels(text, NAMES, 3)
    assert answer.order == (2, 0, 1)
    assert not answer.missing


@pytest.mark.parametrize("text", UNDERSTOOD)
def test_another_way_to_write_the_ranking_is_repaired(text: str) -> None:
    assert parse_labels(text, NAMES, 3).repaired


def test_small_letters_in_the_order_of_the_alphabet_are_a_ranking_if_one_is_announced() -> None:
    assert parse_labels("Ranking: a > b > c", NAMES, 3).order == (0, 1, 2)


def test_titles_that_are_introduced_as_candidates_are_no_answer() -> None:
    for names in (NAMES, NAMES[::-1], NAMES[:5]):
        listed = "".join(f"{place}. {name}\n" for place, name in enumerate(names, start=1))
        assert parse_titles(f"Candidates:\n{listed}", NAMES).order == ()


@pytest.mark.parametrize("text", ["C > B > A", "C, B, A", "1. C\n2. B\n3. A"])
def test_a_last_label_that_may_go_on_is_not_complete(text: str) -> None:
    assert not complete_answer(text, NAMES, 3, "label")
    assert complete_answer(f"{text}\n", NAMES[:26], 3, "label")
