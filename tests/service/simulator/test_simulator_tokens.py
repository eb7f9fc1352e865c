"""Text and image tokens, schemas, limits."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.simulator.accounting import text_tokens
from service.simulator.accounting.image_tokens import RULES, anthropic_image_tokens, openai_image_tokens
from service.simulator.accounting.ledger import Ledger
from service.simulator.answers import structured_output
from service.simulator.contracts import Picture

PROSE = (
    "It is a truth universally acknowledged, that a single man in possession of a good fortune, must be in "
    "want of a wife. However little known the feelings or views of such a man may be on his first entering."
)


@given(st.text())
def test_the_pieces_of_a_text_joined_are_the_text(text: str) -> None:
    assert "".join(text_tokens.split(text)) == text
    assert len(text_tokens.split(text)) == text_tokens.count(text)


def test_english_prose_has_about_four_characters_a_token() -> None:
    assert 3.5 < len(PROSE) / text_tokens.count(PROSE) < 5


@pytest.mark.parametrize(
    ("model", "size", "detail", "billed"),
    [
        ("gpt-4o-2024-08-06", (512, 384), "low", 85),
        ("gpt-4o", (3000, 300), "high", 765),
        ("gpt-4o-mini", (512, 512), "low", 2833),
        ("gpt-5.1", (512, 512), "high", 210),
        ("gpt-5.5", (512, 512), "high", 308),
        ("gpt-6-luna", (1024, 1024), "high", 1229),
        ("gpt-6-luna", (3000, 300), "high", 538),
        ("gpt-5.5", (1024, 1024), "low", 308),
        ("gpt-5.5", (4096, 4096), "auto", 19661),  # `auto` is the original size there
        ("unheard-of", (512, 384), "high", 231),
    ],
)
def test_openai_bills_pictures_as_its_models_do(
    model: str, size: tuple[int, int], detail: str, billed: int
) -> None:
    assert openai_image_tokens(model, *size, detail, RULES["patches"]) == billed


@pytest.mark.parametrize(
    ("model", "size", "billed"),
    [
        ("claude-haiku-4-5", (256, 256), 100),
        ("claude-haiku-4-5", (512, 512), 361),
        ("claude-sonnet-4-6", (1024, 1024), 1369),
        ("claude-sonnet-4-20250514", (1024, 1024), 1369),
        ("claude-haiku-4-5-20251001", (3000, 300), 336),
        ("claude-haiku-4-5", (512, 384), 266),
    ],
)
def test_anthropic_bills_pictures_as_its_models_do(model: str, size: tuple[int, int], billed: int) -> None:
    assert anthropic_image_tokens(model, *size) == billed


def test_a_large_picture_is_shrunk_to_the_limit_of_its_model() -> None:
    assert 1400 < anthropic_image_tokens("claude-haiku-4-5", 8000, 8000) <= 1568
    assert 4300 < anthropic_image_tokens("claude-opus-4-7", 8000, 8000) <= 4784
    assert 2800 < openai_image_tokens("gpt-5.5", 8000, 8000, "high", RULES["tiles"]) <= 3000


FIT_CASES: list[tuple[dict[str, Any], Any, Any]] = [
    ({"type": "string"}, "x", "x"),
    ({"type": "string"}, 3, ""),
    ({"enum": ["a", "b"]}, "b", "b"),
    ({"enum": ["a", "b"]}, "z", "a"),
    ({"const": 4}, None, 4),
    ({"type": "integer"}, True, 0),
    ({"type": "null"}, "x", None),
    ({"anyOf": [{"type": "integer"}, {"type": "string"}]}, "x", "x"),
    ({"type": "array", "items": {"enum": ["a", "b"]}}, ["b", "z", "a"], ["b", "a"]),
    ({"type": "array", "items": {"enum": ["a", "b", "c"]}, "minItems": 3}, ["b"], ["b", "a", "c"]),
    ({"type": "array", "items": {"type": "string"}, "maxItems": 1}, ["x", "y"], ["x"]),
    ({"type": "array", "items": {"type": "integer"}, "minItems": 2}, None, [0, 0]),
    (
        {"type": "object", "properties": {"b": {"type": "string"}, "a": {}}},
        {"a": 1, "c": 2},
        {"b": "", "a": 1},
    ),
    ({"$defs": {"name": {"type": "string"}}, "$ref": "#/$defs/name"}, "x", "x"),
]


@pytest.mark.parametrize(("wanted", "proposal", "fitted"), FIT_CASES)
def test_a_proposal_is_changed_only_where_the_schema_demands_it(
    wanted: Any, proposal: Any, fitted: Any
) -> None:
    assert structured_output.fit(wanted, proposal) == fitted


def test_a_schema_that_needs_itself_without_end_is_refused() -> None:
    endless = {"type": "object", "properties": {"again": {"$ref": "#"}}}
    assert "without end" in (structured_output.objection(endless) or "")


def test_the_ledger_keeps_the_last_fifty_pictures() -> None:
    ledger = Ledger()
    pictures = [Picture(bytes([n]), "image/png", 1, 1, 1) for n in range(60)]
    for picture in pictures:
        with ledger.record("openai") as entry:
            ledger.keep_pictures(entry, (picture,))
    assert [ledger.picture(n, 0) for n in (10, 11, 60)] == [None, pictures[10], pictures[59]]


def test_deleting_the_ledger_forgets_calls_and_keeps_counting() -> None:
    ledger = Ledger()
    with ledger.record("openai"):
        pass
    ledger.clear()
    assert ledger.rows() == []
    with ledger.record("openai") as entry:
        assert entry.number == 2
        assert ledger.in_flight == ledger.peak_in_flight == 1
