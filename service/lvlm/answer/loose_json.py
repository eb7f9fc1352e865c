"""Reads JSON as models write it: cut off anywhere, in prose, in single quotes, without quotes.

Reading goes once from left to right and decides nothing by what is not there yet. So what is read of the
beginning of a text is the beginning of what is read of the whole; a scalar counts when its end is there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field

MAX_DEPTH = 8
"""Structures inside of each other that are read; a deeper one ends the reading like a broken one."""

MAX_STRUCTURES = 500
"""Structures of a text that are read, so that a text of nothing but brackets does not take long."""

MAX_STUCK = 8
"""Quotes without an end after which a text is not read on: each is looked for as far as the text goes."""


@dataclass(slots=True)
class Object:
    """An object as it was read.

    Attributes:
        members: names and values in order; a name may come twice.
        closed: whether its end is there.
    """

    members: list[tuple[str, Value]] = field(default_factory=list)
    closed: bool = False


@dataclass(slots=True)
class Array:
    """An array as it was read.

    Attributes:
        entries: values in order.
        closed: whether its end is there.
    """

    entries: list[Value] = field(default_factory=list)
    closed: bool = False


Value = str | int | float | bool | None | Object | Array


@dataclass(frozen=True, slots=True)
class Structure:
    """An object or array that stands in a text.

    Attributes:
        value: what could be read of it.
        start: offset of its first character.
        end: offset after its last character, or where it could not be read on.
        loose: whether it is no JSON, since it has other quotes, none, or a comma too many.
        stuck: whether a quote in it has no end.
    """

    value: Object | Array
    start: int
    end: int
    loose: bool
    stuck: bool


def structures(text: str) -> Iterator[Structure]:
    """Yields every object and array in a text that is not inside of another one."""
    at = stuck = 0
    for _ in range(MAX_STRUCTURES):
        found = _OPENER.search(text, at)
        if found is None:
            return
        structure = read_structure(text, found.start())
        yield structure
        at = structure.end
        stuck += structure.stuck
        # What follows an open double quote is inside of a string that was cut off.
        if stuck > MAX_STUCK or (structure.stuck and text[at:].lstrip().startswith('"')):
            return


def read_structure(text: str, start: int) -> Structure:
    """Reads the object or array that begins with the bracket at ``start``, as far as it goes."""
    reader = _Reader(text, start)
    value: Object | Array = Object() if text[start] == "{" else Array()
    # What was read before it broke is in the value.
    with suppress(_BrokenError):
        reader.fill(value, 1)
    return Structure(value, start, reader.at, reader.loose, reader.stuck)


@dataclass(frozen=True, slots=True)
class Member:
    """A member of an object.

    Attributes:
        value: value of the member.
        object: object that it belongs to; None where the text has the member alone, without its braces.
    """

    value: Value
    object: Object | None = None


def members(value: Value, wanted: Callable[[str], bool]) -> list[Member]:
    """Returns an object's own members whose name is wanted, in order."""
    if not isinstance(value, Object):
        return []
    return [Member(member, value) for name, member in value.members if wanted(name.strip())]


def deep_members(value: Value, wanted: Callable[[str], bool]) -> Iterator[Member]:
    """Yields the members whose name is wanted of an object, or else of the objects inside of it."""
    own = members(value, wanted)
    yield from own
    if not own:
        for inner in _inner(value):
            yield from deep_members(inner, wanted)


def name_before(text: str, structure: Structure) -> str:
    """Returns the name before a structure, where the brace of its object is missing; empty without one."""
    found = _NAME_BEFORE.search(text[max(0, structure.start - 50) : structure.start])
    return found[1] if found else ""


def is_last(text: str, structure: Structure) -> bool:
    """Tells whether nothing but a fence follows a structure."""
    return not text[structure.end :].strip(" \t\r\n`*.")


def _inner(value: Value) -> list[Value]:
    if isinstance(value, Object):
        return [member for _, member in value.members]
    return value.entries if isinstance(value, Array) else []


_OPENER = re.compile(r"[\[{]")
# Possessive quantifiers (*+, ++) throughout: a text that is made to backtrack must not take long. A single
# quote ends a string only before a mark, since models write 'it's'. A bare word needs a character after it:
# at the end of a text it may go on.
_TOKEN = re.compile(
    r"""\s*+(?:
      (?P<mark>[\[\]{},:])
    | "(?P<string>(?:[^"\\]++|\\.)*+)"
    | '(?P<single>(?:[^'\\]++|\\.|'(?!\s*+[,\]}:]))*+)'(?=\s*+[,\]}:])
    | “(?P<curly>[^”]*+)”
    | (?P<word>[^\s\[\]{},:"'“”]++)(?=.)
    )""",
    re.VERBOSE | re.DOTALL,
)
_NAME_BEFORE = re.compile(r"""["'](\w{1,30})["']\s{0,4}:\s{0,4}$""")
_NUMBER = re.compile(r"-?\d{1,18}")
_FRACTION = re.compile(r"-?\d{1,18}(?:\.\d+)?(?:[eE][-+]?\d{1,3})?")
_CONSTANTS = {"true": True, "false": False, "null": None}


class _BrokenError(Exception):
    """The text does not go on as JSON does."""


class _Reader:
    """Reads one structure.

    Attributes:
        at: offset at which the next token begins.
        loose: whether anything so far was no JSON.
        stuck: whether no token begins there, since a quote has no end.
    """

    def __init__(self, text: str, at: int) -> None:
        self._text = text
        self.at = at
        self.loose = False
        self.stuck = False

    def fill(self, value: Object | Array, depth: int) -> None:
        """Reads a structure's content, from its opening bracket on.

        Raises:
            _BrokenError: its end is not there; it holds what was read before.
        """
        self.at += 1
        end = "}" if isinstance(value, Object) else "]"
        after_comma = False
        while True:
            token = self._token()
            if token["mark"] == end:
                self.loose |= after_comma
                break
            if isinstance(value, Object):
                self._member(token, value, depth)
            else:
                self._entry(token, value, depth)
            token = self._token()
            if token["mark"] == end:
                break
            # A member or an entry is kept before the comma is looked for: what broke is what comes after it.
            self._want(token, ",")
            after_comma = True
        self.at = token.end()
        value.closed = True

    def _member(self, token: re.Match[str], value: Object, depth: int) -> None:
        if token["mark"]:
            raise _BrokenError
        name = self._scalar(token)
        self.loose |= token["word"] is not None
        self._want(self._token(), ":")
        token = self._token()
        inner = self._begun(token, depth)
        value.members.append((str(name), self._scalar(token) if inner is None else inner))
        if inner is not None:
            self.fill(inner, depth + 1)

    def _entry(self, token: re.Match[str], value: Array, depth: int) -> None:
        inner = self._begun(token, depth)
        value.entries.append(self._scalar(token) if inner is None else inner)
        if inner is not None:
            self.fill(inner, depth + 1)

    def _begun(self, token: re.Match[str], depth: int) -> Object | Array | None:
        """The empty structure that a token begins; None for a scalar."""
        mark = token["mark"]
        if not mark:
            return None
        if mark not in "[{" or depth >= MAX_DEPTH:
            raise _BrokenError
        self.at = token.end() - 1
        return Object() if mark == "{" else Array()

    def _scalar(self, token: re.Match[str]) -> str | int | float | bool | None:
        self.at = token.end()
        if (string := token["string"]) is not None:
            return _decoded(string)
        if (word := token["word"]) is None:
            self.loose = True
            single = token["single"]
            return token["curly"] if single is None else re.sub(r"\\(.)", r"\1", single, flags=re.DOTALL)
        if word in _CONSTANTS:
            return _CONSTANTS[word]
        if _NUMBER.fullmatch(word):
            return int(word)
        if _FRACTION.fullmatch(word):
            return float(word)
        self.loose = True
        return word

    def _want(self, token: re.Match[str], mark: str) -> None:
        if token["mark"] != mark:
            raise _BrokenError
        self.at = token.end()

    def _token(self) -> re.Match[str]:
        found = _TOKEN.match(self._text, self.at)
        if found is None:
            self.stuck = True
            raise _BrokenError
        return found


def _decoded(string: str) -> str:
    # Nearly all strings, and faster than a JSON parser.
    if "\\" not in string:
        return string
    try:
        decoded: str = json.loads(f'"{string}"', strict=False)
    except ValueError:
        return string
    return decoded
