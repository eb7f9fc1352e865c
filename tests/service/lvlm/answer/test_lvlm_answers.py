"""The parser turns a model's text into an order of the pool, and counts what was wrong with it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from parsed_answers import parse_labels, parse_titles

from service.lvlm.contracts import ParsedAnswer
from service.lvlm.prompt.prompts import label

NAMES = [f"Item number {number}" for number in range(60)]

TITLES = [
    "Neutrogena Oil-Free Acne Wash, 6 Ounce",
    "OPI Nail Lacquer, Not So Bora-Bora-ing Pink, 0.5 Fluid Ounce",
    "OPI Nail Lacquer, Not So Bora-Bora-ing Red, 0.5 Fluid Ounce",
    "Comb",
    "Comb",
]


@pytest.mark.parametrize(
    "text",
    [
        '{"ranking": ["C", "A", "B"]}',
        '{"ranking":["c","a","b"]}',
        '```json\n{"ranking": ["C", "A", "B"]}\n```',
        'The user likes blue. {"ranking": ["C", "A", "B"]} I hope this helps!',
        '{"explanation": "because \\"ranking\\": [\\"B\\"]", "ranking": ["C", "A", "B"]}',
        '<think>maybe {"ranking": ["B", "A"]}?</think>{"ranking": ["C", "A", "B"]}',
        '["C", "A", "B"]',
        '{"ranking": [" [C] ", "(A)", "B."]}',
        '{"Ranking" : [\n"C",\n"A",\n"B"\n]',
        '{"ranking": ["C", "A", "B", "A',
        '{"ranking": ["C", "A", "B"], "explanation": "becau',
    ],
)
def test_one_ranking_is_read_however_it_is_wrapped(text: str) -> None:
    answer = parse_labels(text, NAMES[:4], top=3)
    assert answer.order == (2, 0, 1)
    assert not answer.repaired


def test_a_truncated_answer_keeps_its_complete_labels() -> None:
    text = '{"ranking": ["AB", "AA", "A'
    assert parse_labels(text, NAMES[:30], top=3) == ParsedAnswer((27, 26), 0, 0, missing=1)


def test_invented_duplicated_and_missing_labels_are_counted() -> None:
    answer = parse_labels('{"ranking": ["B", "B", "Q", 7, null, "A"]}', NAMES[:3], top=3)
    assert answer == ParsedAnswer((1, 0), invented=3, duplicated=1, missing=1)
    assert answer.repaired


def test_more_labels_than_asked_for_are_kept() -> None:
    assert parse_labels('{"ranking": ["B", "A", "C"]}', NAMES[:3], top=1) == ParsedAnswer((1, 0, 2), 0, 0, 0)


@pytest.mark.parametrize(
    "text", ["", "no idea", "{}", '{"ranking": []}', '{"ranking": "A"}', "[[[[", '{"ranking": [']
)
def test_an_answer_with_nothing_usable_has_an_empty_order(text: str) -> None:
    assert parse_labels(text, NAMES[:3], top=2).order == ()


def test_an_explanation_is_cleaned_capped_and_escaped() -> None:
    text = json.dumps({"ranking": ["A"], "explanation": "<script>\u202e & \x07" + "long " * 500})
    explanation = parse_labels(text, NAMES[:1], 1).explanation
    assert explanation is not None
    assert explanation.startswith("&lt;script&gt; &amp; long")
    assert len(explanation) < 700


@pytest.mark.parametrize(
    ("text", "explanation"),
    [
        ('{"ranking": ["A"], "explanation": "one"}', "one"),
        ('{"explanation": "one", "ranking": ["A"', "one"),
        (
            'Draft: {"ranking": ["B"], "explanation": "draft"} Now: {"ranking": ["A"], "explanation": "one"}',
            "one",
        ),
        ('Draft: {"ranking": ["B"], "explanation": "draft"} Now: {"ranking": ["A"]}', None),
        ('{"ranking": ["A"]} {"ranking": ["B"], "explanation": "another"}', None),
        ('<think>{"ranking": ["B"], "explanation": "draft"}</think>["A"]', None),
        ('{"ranking": ["ZZ"], "explanation": "of nothing"}', None),
        ('{"ranking": [], "explanation": "of nothing"}', None),
        ('{"explanation": "of nothing"} 1. A', None),
        ('{"note": {"explanation": "of something else"}, "ranking": ["A"]}', None),
        ('{"ranking": ["A"], "explanation": 7}', None),
        ("{'ranking': ['A'], 'explanation': 'it's one'}", "it&#x27;s one"),
    ],
)
def test_an_explanation_belongs_to_the_ranking_of_its_own_object(text: str, explanation: str | None) -> None:
    assert parse_labels(text, NAMES[:2], 1).explanation == explanation


def test_half_an_explanation_is_none() -> None:
    assert parse_labels('{"ranking": ["A"], "explanation": "because', NAMES[:1], 1).explanation is None


def test_the_object_that_a_text_begins_with_is_the_answer_whatever_follows() -> None:
    text = '{"ranking": ["B", "A"]} or rather {"ranking": ["C"]}'
    assert parse_labels(text, NAMES[:3], 2).order == (1, 0)
    assert parse_labels(f"I would say {text}", NAMES[:3], 2).order == (2,)


def test_an_answer_kept_by_an_earlier_version_can_be_read() -> None:
    assert not ParsedAnswer(**{"order": (0,), "invented": 0, "duplicated": 0, "missing": 0}).repaired  # type: ignore[arg-type]


def test_titles_are_matched_exactly_whatever_their_case_and_spacing() -> None:
    text = json.dumps({"explanation": "", "recommendations": ["  COMB", TITLES[1].upper(), TITLES[0] + " "]})
    assert parse_titles(text, TITLES).order == (3, 1, 0)


def test_equal_titles_are_taken_one_after_the_other() -> None:
    answer = parse_titles(json.dumps({"recommendations": ["Comb", "Comb", "Comb"]}), TITLES)
    assert answer.order == (3, 4)
    assert answer.duplicated == 1


def test_a_shortened_title_is_matched_when_it_can_mean_one_item_only() -> None:
    answer = parse_titles(json.dumps({"recommendations": ["Neutrogena Oil-Free Acne Wash…"]}), TITLES)
    assert answer.order == (0,)


@pytest.mark.parametrize(
    "short", ["OPI Nail Lacquer, Not So Bora", "Neutrogena", "Neutrogena Oil-Free Acne", "Com"]
)
def test_an_ambiguous_or_too_short_title_is_invented(short: str) -> None:
    answer = parse_titles(json.dumps({"recommendations": [short]}), TITLES)
    assert answer.order == ()
    assert answer.invented == 1


def test_a_similar_title_is_not_taken_for_one_of_the_pool() -> None:
    answer = parse_titles(json.dumps({"recommendations": ["Neutrogena Oil-Free Acne Wash, 8 Ounce"]}), TITLES)
    assert answer.order == ()


answers = st.one_of(
    st.text(),
    st.lists(st.one_of(st.text(max_size=4), st.integers(), st.none())).map(
        lambda x: json.dumps({"ranking": x})
    ),
    st.lists(st.sampled_from([label(n) for n in range(40)])).map(lambda x: json.dumps({"ranking": x})),
)


@given(answers, st.integers(1, 60), st.data())
def test_any_text_gives_different_items_of_the_pool(text: str, pool_size: int, data: st.DataObject) -> None:
    text = text[: data.draw(st.integers(0, len(text)))]
    answer = parse_labels(text, NAMES[:pool_size], top=min(10, pool_size))
    assert len(set(answer.order)) == len(answer.order)
    assert set(answer.order) <= set(range(pool_size))


@given(
    st.one_of(st.text(), st.lists(st.text()).map(lambda x: json.dumps({"recommendations": x}))),
    st.lists(st.text()),
)
def test_any_text_gives_different_items_whatever_their_titles(text: str, titles: list[str]) -> None:
    answer = parse_titles(text, titles)
    assert len(set(answer.order)) == len(answer.order)
    assert set(answer.order) <= set(range(len(titles)))


@given(st.permutations([label(n) for n in range(30)]), st.integers(0, 400))
def test_every_prefix_of_an_answer_is_a_prefix_of_its_order(labels: list[str], cut: int) -> None:
    text = json.dumps({"ranking": labels})
    whole = parse_labels(text, NAMES[:30], 30).order
    part = parse_labels(text[:cut], NAMES[:30], 30).order
    assert whole[: len(part)] == part


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"ranking":[' * 20_000, '{"explanation": "' * 10_000, "\\" * 50_000]
)
def test_endless_repetition_is_read_in_no_time(text: str) -> None:
    assert parse_labels(text, NAMES[:30], 10).order == ()


def test_titles_in_place_of_labels_are_understood() -> None:
    answer = parse_labels('{"ranking": ["item number 2", "A", "Item number 99"]}', NAMES[:5], top=3)
    assert answer == ParsedAnswer((2, 0), invented=1, duplicated=0, missing=1)
