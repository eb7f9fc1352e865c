"""Brings names and queries of the search into one form, and finds the words in them."""

from __future__ import annotations

import re
import unicodedata

from service.errors import InvalidRequestError

MAX_WORDS = 16
"""Different words of a query that are searched for; more are refused."""
SHORT = 2
"""Characters up to which a word of a query matches beginnings of words, and beyond which any part of them."""

_ACCENTS = re.compile("[\u0300-\u036f]+")
_CONTROLS = re.compile("[\0-\x1f\x7f]")
# SQLite reads these as U+FFFD, and UTF-8 cannot hold the surrogates among them.
_NOT_CHARACTERS = re.compile("[\ud800-\udfff\ufffe\uffff]")


def search_form(text: str) -> str:
    """Returns a text as it is compared: without case, accents, compatibility forms and control characters.

    It is NFKD without U+0300 to U+036F, case-folded and composed again (Unicode Standard Annex 15), so that
    "Café", "CAFE" and full-width letters are one word. Marks of other scripts stay: they make other words.
    """
    if text.isascii():
        return (text if text.isprintable() else _CONTROLS.sub(" ", text)).lower()
    text = _ACCENTS.sub("", unicodedata.normalize("NFKD", text)).casefold()
    return _CONTROLS.sub(" ", _NOT_CHARACTERS.sub("\ufffd", unicodedata.normalize("NFKC", text)))


def query_words(query: str) -> tuple[str, ...]:
    """Returns the words that a name must hold, in search form, each once.

    Words of one or two characters without a letter or digit, such as "&", are left out.

    Raises:
        InvalidRequestError: there are more than ``MAX_WORDS`` of them.
    """
    words = [
        word
        for word in dict.fromkeys(search_form(query).split())
        if len(word) > SHORT or any(char.isalnum() for char in word)
    ]
    if len(words) > MAX_WORDS:
        raise InvalidRequestError(
            f"q has {len(words)} different words and at most {MAX_WORDS} are searched for: leave some out"
        )
    return tuple(words)


class _Runs(dict[int, int]):
    """A table for ``str.translate`` that leaves letters, digits and marks and makes spaces of all else."""

    def __missing__(self, code: int) -> int:
        char = chr(code)
        self[code] = code if char.isalnum() or unicodedata.category(char)[0] == "M" else ord(" ")
        return self[code]


_RUNS = _Runs()


def word_starts(form: str) -> set[str]:
    """Returns the first two characters of every word of a name in search form, one where the word has one.

    Words are what stands between white space, and runs of letters, digits and their marks: "t-shirt #15" has
    the starts "t-", "t", "sh", "#1" and "15".
    """
    return {word[:SHORT] for word in (*form.split(), *form.translate(_RUNS).split())}
