"""Parses answers for tests that have nothing but the names of the candidates."""

from __future__ import annotations

from collections.abc import Sequence

from service.lvlm.answer.entries import Candidates
from service.lvlm.answer.parser import is_complete, read_answer
from service.lvlm.contracts import Form, ParsedAnswer


def parse_labels(text: str, names: Sequence[str], top: int) -> ParsedAnswer:
    """Reads an answer in the label form, of which ``top`` labels were asked for."""
    return read_answer(text, Candidates(names, "label"), top)


def parse_titles(text: str, names: Sequence[str]) -> ParsedAnswer:
    """Reads an answer in the paper's form, which asks for all candidates."""
    return read_answer(text, Candidates(names, "paper"), len(names))


def complete_answer(text: str, names: Sequence[str], top: int, form: Form) -> bool:
    """Tells whether a text shows by itself that it is a complete ranking."""
    return is_complete(text, Candidates(names, form), top)
