"""Model text to an order of the pool. Pure, tolerant, and never given the target.

Whatever the text is, the result is a list of different pool positions with counts of what was wrong. Matching
titles follows the corrected evaluator of MSRBench: exact after normalising, else an unambiguous prefix of at
least 20 characters and 4 words (models that were told to shorten titles), else the item is invented.
"""

from __future__ import annotations

import html
import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache

import jiter

from service.lvlm.prompts import clean, label

MAX_TEXT = 65_536
MAX_EXPLANATION = 600
MAX_TRIES = 8  # arrays looked at in one answer: an endless repetition must not cost quadratic time
MIN_PREFIX_CHARACTERS = 20
MIN_PREFIX_WORDS = 4

Match = Callable[[str], Iterable[int]]
"""Answered text -> the pool positions that it can mean, best first; none for an invented item."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model answered, as far as it can be used.

    Attributes:
        order: positions in the pool as shown, best first, no duplicates.
        invented: entries that are not in the pool.
        duplicated: entries that repeat an earlier one.
        missing: how many of the items asked for are not there.
        explanation: cleaned, capped and HTML-escaped; None without one.
    """

    order: tuple[int, ...]
    invented: int
    duplicated: int
    missing: int
    explanation: str | None = None

    @property
    def repaired(self) -> bool:
        """Whether anything had to be left out or filled in."""
        return bool(self.invented or self.duplicated or self.missing)


def parse_labels(text: str, names: Sequence[str], top: int) -> Answer:
    """Read an answer in the label form.

    Args:
        text: the model's text, or any prefix of it: an unfinished label is dropped.
        names: candidate names as the prompt showed them: some models answer these instead of their labels.
        top: number of labels asked for.
    """
    positions = {label(position): position for position in range(len(names))}

    @cache
    def titles() -> list[str]:  # hardly any answer needs them
        return [_normalise(name) for name in names]

    def match(entry: str) -> Iterable[int]:
        position = positions.get(entry.strip(" \t\r\n[](){}<>\"'`*.:").upper())
        if position is not None:
            return (position,)
        wanted = _normalise(entry)
        return [at for at, title in enumerate(titles()) if title == wanted]

    return _read(text, "ranking", match, top)


def parse_titles(text: str, names: Sequence[str]) -> Answer:
    """Read an answer in the paper's form.

    Args:
        text: the model's text, or any prefix of it.
        names: candidate names as the prompt showed them; all of them are asked for.
    """
    titles = [_normalise(name) for name in names]

    def match(entry: str) -> Iterable[int]:
        wanted = _normalise(entry)
        exact = [position for position, title in enumerate(titles) if title == wanted]
        return exact or _prefixed(wanted, titles)

    return _read(text, "recommendations", match, len(names))


def complete(order: Iterable[int], pool_size: int) -> tuple[int, ...]:
    """Continue an order with all other positions, in their own order: a permutation of the pool."""
    return tuple(dict.fromkeys((*order, *range(pool_size))))


def _read(text: str, key: str, match: Match, asked: int) -> Answer:
    text = text[:MAX_TEXT]
    best = Answer((), 0, 0, asked)
    for entries in _arrays(text, key):  # the last usable one: a model may think aloud before it answers
        answer = _place(entries, match, asked)
        if answer.order or not best.order:
            best = answer
    return replace(best, explanation=_explanation(text))


def _place(entries: Sequence[object], match: Match, asked: int) -> Answer:
    order: dict[int, None] = {}
    invented = duplicated = 0
    for entry in entries:
        meant = list(match(entry)) if isinstance(entry, str) else []
        free = [position for position in meant if position not in order]
        if free:
            order[free[0]] = None
        elif meant:
            duplicated += 1
        else:
            invented += 1
    return Answer(tuple(order), invented, duplicated, max(0, asked - len(order)))


def _prefixed(wanted: str, titles: Sequence[str]) -> list[int]:
    if len(wanted) < MIN_PREFIX_CHARACTERS or len(wanted.split()) < MIN_PREFIX_WORDS:
        return []
    found = [position for position, title in enumerate(titles) if title.startswith(wanted)]
    return found if len({titles[position] for position in found}) == 1 else []


def _normalise(title: str) -> str:
    folded = unicodedata.normalize("NFKC", title).casefold()
    return " ".join(folded.split()).strip(" \"'`*…").removesuffix("...").rstrip(" .")


# --- finding JSON in text -----------------------------------------------------------------------------------


def _arrays(text: str, key: str) -> Iterable[list[object]]:
    """Every array under ``key``, in order; a bare array when the key never appears."""
    found = [match.end() - 1 for match in re.finditer(rf'"{key}"\s*:\s*\[', text, re.IGNORECASE)]
    if not found and "[" in text:
        found = [text.index("[")]
    for start in found[-MAX_TRIES:]:
        array = _array(text[start:])
        if array is not None:
            yield array


def _array(text: str) -> list[object] | None:
    """The array that the text begins with, as far as it goes."""
    try:
        value, _ = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        try:
            value = jiter.from_json(text.encode("utf-8", "replace"), partial_mode=True)
        except ValueError:
            return None
    return value if isinstance(value, list) else None


def _explanation(text: str) -> str | None:
    starts = [match.end() - 1 for match in re.finditer(r'"explanation"\s*:\s*"', text, re.IGNORECASE)]
    for start in reversed(starts[-MAX_TRIES:]):
        try:
            value, _ = json.JSONDecoder(strict=False).raw_decode(text[start:])
        except ValueError:  # cut off: half a sentence explains nothing
            continue
        return html.escape(clean(value, MAX_EXPLANATION)) or None
    return None
