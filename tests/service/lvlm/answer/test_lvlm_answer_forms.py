"""Answers in other forms than the one asked for: what counts as a ranking, and what only looks like one."""

from __future__ import annotations

import json

import pytest
from parsed_answers import complete_answer, parse_labels, parse_titles

from service.lvlm.prompt.prompts import Entry, PromptContent, label, ranking_prompt
from service.lvlm.providers.base import Text
from service.strategies import Task

NAMES = [
    "Blue mug",
    "Red cup",
    "Green bowl",
    "Women's shirt, size M",
    "A-line skirt: summer",
    "Plate - large",
]
TOP = 3
ORDER = (2, 0, 1)
"""Pool positions of C, A, B, the ranking of every text in FORMS."""

TITLES = [NAMES[position] for position in (2, 0, 1, 4, 3, 5)]
TITLE_ORDER = (2, 0, 1, 4, 3, 5)

CHAINS = [
    "[C] > [A] > [B]",
    "C > A > B",
    "C>A>B\n",
    "c > a > b",
    "C ≻ A ≻ B",
    "C → A → B",
    "C &gt; A &gt; B",
    "**C** > **A** > **B**",
    "`C > A > B`",
    "[C] > [A] > [B].",
    "> [C] > [A] > [B]",
    "C > A >\nB",
    "Item C > Item A > Item B",
    "Ranking: C > A > B",
    "Here is the ranking:\n[C] > [A] > [B]",
    "Final ranking: **[C] > [A] > [B]**",
    "The user likes blue.\n\n[C] > [A] > [B]\n\nI hope that helps.",
    "A first guess.\nA > B > C\nBut the bowl fits better.\nC > A > B",
    "```\n[C] > [A] > [B]\n```",
    "<answer>[C] > [A] > [B]</answer>",
    "\\boxed{C > A > B}",
    "[C] > [A] > [B]</s>",
    "C > A > B. The bowl is green.",
    "Green bowl > Blue mug > Red cup",
    "[3] > [1] > [2]",
    "<think>A > B > C</think>\nC > A > B",
]

LINES = [
    "1. C\n2. A\n3. B",
    "1) [C]\n2) [A]\n3) [B]",
    "1: **C** – because\n2: **A** – as\n3: **B** – so",
    "1. C - green\n2. A - blue\n3. B - red",
    "1. C, since it is green\n2. A, since it is blue\n3. B, since it is red",
    "1. C: Green bowl\n2. A: Blue mug\n3. B: Red cup",
    "1. [C] Green bowl\n2. [A] Blue mug\n3. [B] Red cup",
    "1. Candidate C\n2. Candidate A\n3. Candidate B",
    "**1.** C\n**2.** A\n**3.** B",
    "**1. C**\n**2. A**\n**3. B**",
    "(1) C\n(2) A\n(3) B",
    "- 1. C\n- 2. A\n- 3. B",
    "Rank 1: C\nRank 2: A\nRank 3: B",
    "1. C 2. A 3. B",
    "1) C, 2) A, 3) B",
    "1. 3\n2. 1\n3. 2",
    "Here they are:\n\n1. C\n   It is green.\n\n2. A\n   It is blue.\n\n3. B\n",
    "# Ranking\n1. C\n2. A\n3. B\n\nThe bowl comes first because it is green.",
    "1. The user likes blue.\n2. The user likes mugs.\n\nSo:\n1. C\n2. A\n3. B",
    "1. Green bowl\n2. Blue mug\n3. Red cup",
    "1. **Green bowl** - nice\n2. **Blue mug** - ok\n3. **Red cup** - well",
    '1. "Green bowl"\n2. "Blue mug"\n3. "Red cup"',
    "C\nA\nB",
    "- C\n- A\n- B",
    "C, A, B",
    "[C], [A], [B]",
    "<think>1. A\n2. B</think>\n1. C\n2. A\n3. B",
]

LOOSE_JSON = [
    "{'ranking': ['C', 'A', 'B']}",
    "{'ranking': ['Green bowl', 'Blue mug', 'Red cup'], 'note': 'the user\\'s mug isn't \"big\"'}",
    "['C', 'A', 'B']",
    "{“ranking”: [“C”, “A”, “B”]}",
    "{ranking: [C, A, B]}",
    '{"ranking": [C, A, B]}',
    "[C, A, B]",
    "My ranking: [C, A, B]",
    '{"ranking": ["C", "A", "B",]}',
    '{"ranking": [{"label": "C", "reason": "x"}, {"label": "A"}, {"label": "B", "reason": "y"}]}',
    '{"ranking": [{"rank": 2, "label": "A"}, {"rank": 1, "label": "C"}, {"rank": 3, "label": "B"}]}',
    '{"ranking": [{"title": "Green bowl"}, {"title": "Blue mug"}, {"title": "Red cup"}]}',
    '{"ranking": [{"id": 3}, {"id": 1}, {"id": 2}]}',
    '[{"label": "C"}, {"label": "A"}, {"label": "B"}]',
    '{"ranking": [3, 1, 2]}',
    '{"ranking": ["3", "1", "2"]}',
    "[3, 1, 2]",
    '{"ranking": {"1": "C", "2": "A", "3": "B"}}',
    '{"ranking": "C > A > B"}',
    '{"ranking": ["C: Green bowl", "A: Blue mug", "B: Red cup"]}',
    '{"order": ["C", "A", "B"]}',
    "<think>{'ranking': ['A']}</think>{'ranking': ['C', 'A', 'B']}",
]

FORMS = [*CHAINS, *LINES, *LOOSE_JSON]

AS_ASKED = [
    '{"ranking": ["C", "A", "B"]}',
    ' \r\n{"ranking": ["c", "a", "b"]}\n ',
    '\ufeff{"ranking": ["C", "A", "B"]}',
    '```json\n{"ranking": ["C", "A", "B"]}\n```',
    'Sure!\n```json\n{"ranking": ["C", "A", "B"]}\n```',
    '["C", "A", "B"]',
    '```\n["C", "A", "B"]\n```',
    '<think>maybe {"ranking": ["B"]} or [A]?</think>\n{"ranking": ["C", "A", "B"]}',
    '<think>[A], [B] look fine; [C] best.</think>\n["C", "A", "B"]',
    '<THINKING>["A"]</THINKING>["C", "A", "B"]',
    '<reasoning>A > B > C</reasoning>\n\n{"ranking": ["C", "A", "B"]}',
    'The template began this. ["A", "B", "C"]\n</think>\n{"ranking": ["C", "A", "B"]}',
    '<think>I shall write </think> and then {"ranking": ["A"]}.</think>{"ranking": ["C", "A", "B"]}',
    '<think>a</think><think>b</think>{"ranking": ["C", "A", "B"]}',
    '[THINK]["A"][/THINK]{"ranking": ["C", "A", "B"]}',
    '◁think▷["A"]◁/think▷{"ranking": ["C", "A", "B"]}',
    '<|channel|>analysis<|message|>["A"]<|end|><|start|>assistant<|channel|>final<|message|>["C", "A", "B"]',
    '<answer>{"ranking": ["C", "A", "B"]}</answer>',
    '<|begin_of_box|>{"ranking": ["C", "A", "B"]}<|end_of_box|>',
]


def question(form: str = "label") -> PromptContent:
    history = (Entry("Comb"), Entry("Old hat", cell=1))
    return PromptContent(Task.RERANK, form, history, tuple(NAMES), TOP)  # type: ignore[arg-type]


def data() -> str:
    """The JSON data block of a prompt in the label form, without the lines around it."""
    (text,) = [part.text for part in ranking_prompt(question()).parts if isinstance(part, Text)]
    return text.removeprefix("<data>\n").removesuffix("\n</data>")


def paper_text() -> str:
    (text,) = [part.text for part in ranking_prompt(question("paper")).parts if isinstance(part, Text)]
    return text


CANDIDATES = json.loads(data())["candidates"]
SYSTEM = ranking_prompt(question()).system
SCHEMA = json.dumps(ranking_prompt(question()).answer_schema)

PROSE = [
    "I think [A] and [B] are fine, C less so.",
    "I think [A, B] are fine, C less so.",
    "I think [A, B, C] are all fine.",
    "I like A > B more than anything.",
    "The candidates are A, B and C.",
    "Sure, I can rank [A], [B] and [C].",
    "I would recommend A. Then maybe B.",
    "Option A is a mug.\nOption B is a cup.",
    "[A]: a mug\n[B]: a cup\n[C]: a bowl",
    "Between A and B, I prefer A > B since it is blue, but C > A also holds.",
    "A > B\nB > C\nC > A\nso there is no order.",
    "If price > quality, A.",
    "a > 3 and b > 2",
    "The order is not C > A > B.",
    "It is not this:\nC > A > B",
    "For example: C > A > B",
    "No ranking: A, B, C",
    "none of A, B, C",
    "My favourites: C, A",
    "I, A",
    "A",
    "A or B?",
    "C\nis\nfine",
    "1. I looked at the history.\n2. A blue mug would fit.\n3. So [A].",
    "1. A quick look shows blue.\n2. C is nice.\n3. B",
    "1. [A] and [B] are fine\n2. [C] is not",
    "1. A, B and C are fine\n2. The others are not",
    "Things to consider:\n1. A: too small\n2. B: nice\nOverall I cannot decide.",
    "2. C\n3. A",
    "See [1] and [2] for details.",
    "The user took 3, 1, 2 items",
    "I like the Blue mug and the Red cup > all the others",
]

REFUSALS = [
    "",
    "I'm sorry, I can't help with that.",
    '{"error": "cannot rank"}',
    '{"refusal": "I cannot rank A, B, C"}',
    "{}",
    "[]",
    '["yes", "no"]',
    '{"ranking": []}',
    '{"ranking": null}',
    '{"ranking": true}',
    '{"ranking": "A"}',
    '{"ranking": ["ZZ", "YY"]}',
    "[0, 1, 2]",
    '{"ranking": [0, 1, 2]}',
    '{"ranking": ["0", "2", "1"]}',
    "[0] > [2] > [1]",
    "1. 0\n2. 2\n3. 1",
    '{"ranking": [0.9, 0.5, 0.1]}',
    '{"scores": [3, 1, 2]}',
    "Scores: [3, 1, 2]",
    '{"A": 0.9, "B": 0.5, "C": 0.1}',
    '{"liked": ["A"], "disliked": ["B"]}',
]

THOUGHTS = [
    '<think>{"ranking": ["C", "A", "B"]}</think>',
    '<think>{"ranking": ["C", "A", "B"]}',
    "<think>C > A > B</think>",
    "<think>C > A > B\n",
    "<think>1. C\n2. A\n3. B</think>\nI cannot decide.",
    "<thinking>\n[C, A, B]\n</thinking>\nSorry.",
    '<reasoning>["C", "A", "B"]</reasoning>',
    'Let me think. <think>["C", "A", "B"]',
    "Thoughts: A > B > C ... </think> I refuse.",
    '[THINK]["C", "A", "B"]',
    '<|channel|>analysis<|message|>["C", "A", "B"]',
]

ECHOES = [
    SYSTEM,
    f"<data>\n{data()}\n</data>",
    f"{SYSTEM}\n\n<data>\n{data()}\n</data>",
    data(),
    data()[:-40],
    data()[:200],
    json.dumps(CANDIDATES),
    json.dumps(CANDIDATES, indent=1),
    json.dumps({"candidates": CANDIDATES}),
    json.dumps({"candidates": CANDIDATES})[1:],
    json.dumps(CANDIDATES)[:-30],
    json.dumps([{"label": label(position)} | each for position, each in enumerate(CANDIDATES)][:4]),
    json.dumps(NAMES),
    "".join(f"{place}. {name}\n" for place, name in enumerate(NAMES, start=1)),
    "".join(f"{place}. {label(place - 1)}: {name}\n" for place, name in enumerate(NAMES, start=1)),
    "".join(f"[{label(position)}] {name}\n" for position, name in enumerate(NAMES)),
    " > ".join(NAMES),
    SCHEMA,
    '{"ranking": {"type": "array", "items": {"type": "string"}}}',
    '{"ranking": ["…", "…"]}',
    '{"ranking": ["...", "..."]}',
    '{"ranking": ["…", "…"], "explanation": "…"}',
]

NO_ANSWERS = [*PROSE, *REFUSALS, *THOUGHTS, *ECHOES]


@pytest.mark.parametrize("text", FORMS)
def test_a_ranking_in_another_form_is_understood_and_is_repaired(text: str) -> None:
    answer = parse_labels(text, NAMES, TOP)
    assert answer.order == ORDER
    assert (answer.invented, answer.duplicated, answer.missing) == (0, 0, 0)
    assert answer.form
    assert answer.repaired


@pytest.mark.parametrize("text", AS_ASKED)
def test_a_ranking_as_it_was_asked_for_is_no_other_form(text: str) -> None:
    answer = parse_labels(text, NAMES, TOP)
    assert answer.order == ORDER
    assert not answer.repaired


@pytest.mark.parametrize("text", NO_ANSWERS)
def test_what_is_no_ranking_is_none(text: str) -> None:
    assert parse_labels(text, NAMES, TOP).order == ()


def test_there_are_as_many_texts_that_are_none_as_texts_that_are_one() -> None:
    assert len(set(NO_ANSWERS)) >= len(set(FORMS))


# --- titles -----------------------------------------------------------------------------------------------

TITLE_FORMS = [
    str({"recommendations": TITLES}),
    str(TITLES),
    " > ".join(TITLES),
    "Here is the ranking: " + " > ".join(TITLES),
    "".join(f"{place}. {title}\n" for place, title in enumerate(TITLES, start=1)),
    "".join(f"{place}) **{title}** – because it is nice\n" for place, title in enumerate(TITLES, start=1)),
    "".join(f"{place}: {title} - because it is nice\n" for place, title in enumerate(TITLES, start=1)),
    json.dumps({"recommendations": [{"title": title, "reason": "x"} for title in TITLES]}),
    '{"recommendations": [3, 1, 2, 5, 4, 6]}',
    "[3] > [1] > [2] > [5] > [4] > [6]",
    json.dumps({"ranking": TITLES}),
]

NO_TITLES = [
    paper_text(),
    paper_text()[:300],
    paper_text()[:-150],
    json.dumps(NAMES),
    json.dumps({"candidates": NAMES}),
    json.dumps(["Comb", "Old hat"]),
    "\n".join(NAMES),
    "".join(f"{place}. {name}\n" for place, name in enumerate(NAMES, start=1)),
    '{"explanation": "…", "recommendations": ["…", "…"]}',
    "<think>" + json.dumps({"recommendations": TITLES}),
    "I would take the Green bowl, then the Blue mug.",
    "1. The Green bowl is nice.\n2. So is the Blue mug.",
]


@pytest.mark.parametrize("text", TITLE_FORMS)
def test_titles_in_another_form_are_understood_and_repaired(text: str) -> None:
    answer = parse_titles(text, NAMES)
    assert answer.order == TITLE_ORDER
    assert answer.form
    assert complete_answer(text, NAMES, len(NAMES), "paper")


@pytest.mark.parametrize("text", NO_TITLES)
def test_titles_that_are_no_ranking_are_none(text: str) -> None:
    assert parse_titles(text, NAMES).order == ()


def test_the_order_shown_is_an_answer_under_the_key() -> None:
    assert parse_titles(json.dumps({"recommendations": NAMES}), NAMES).order == tuple(range(len(NAMES)))
    objects = json.dumps({"ranking": CANDIDATES})
    assert parse_labels(objects, NAMES, TOP).order == tuple(range(len(NAMES)))


# --- faults inside of other forms -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "order", "counts"),
    [
        ("[C] > [C] > [Q] > [A]", (2, 0), (1, 1, 1)),
        ("1. C\n2. ZZ\n3. C", (2,), (1, 1, 2)),
        ('{"ranking": [{"label": "C"}, {"reason": "none"}]}', (2,), (1, 0, 2)),
        ("[3, 99, 1]", (2, 0), (1, 0, 1)),
        ("['C', 'A']", (2, 0), (0, 0, 1)),
        ("Ranking: C > A", (2, 0), (0, 0, 1)),
    ],
)
def test_faults_in_other_forms_are_counted_too(
    text: str, order: tuple[int, ...], counts: tuple[int, int, int]
) -> None:
    answer = parse_labels(text, NAMES, TOP)
    assert answer.order == order
    assert (answer.invented, answer.duplicated, answer.missing) == counts


@pytest.mark.parametrize("text", ["{'ranking': ['C', 'A', 'B", "[3, 1, 2", "{ranking: [C, A, B"])
def test_what_was_cut_off_in_the_middle_of_a_scalar_is_dropped(text: str) -> None:
    assert parse_labels(text, NAMES, TOP).order == (2, 0)
