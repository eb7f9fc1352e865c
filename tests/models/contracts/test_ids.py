"""Tests which ids a path can name."""

import re
from urllib.parse import quote, unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.contracts.ids import id_problem

GOOD = [
    "a",
    "a/b",
    "/",
    "//",
    "a/",
    "...",
    "a/../b",
    "x/image",
    "é" * 256,
    "☃",
    "?",
    "#",
    "%2F",
    "a b",
    "\\",
    "a\u200b",
]
BAD = {
    "": "is empty",
    "a" * 257: "has 257 characters, more than 256",
    ".": "is a step between folders",
    "..": "is a step between folders",
    "a\nb": "control character U+000A",
    "a\0": "control character U+0000",
    "\x7f": "control character U+007F",
    "\x85": "control character U+0085",
    "\ud800": "half of a surrogate pair",
}


@pytest.mark.parametrize("public_id", GOOD)
def test_an_id_of_other_characters_can_be_named(public_id: str) -> None:
    assert id_problem(public_id) is None


@pytest.mark.parametrize("public_id", BAD, ids=range(len(BAD)))
def test_an_id_that_no_path_names_is_told_why(public_id: str) -> None:
    assert re.search(re.escape(BAD[public_id]), id_problem(public_id) or "")


@given(st.text(st.characters(codec="utf-8")))
def test_an_id_without_a_problem_comes_through_a_path_unchanged(public_id: str) -> None:
    if id_problem(public_id) is None:
        segment = quote(public_id, safe="")
        assert segment not in ("", ".", "..")
        assert unquote(segment, errors="strict") == public_id
