"""Reads JSON as models write it: amid prose, cut off anywhere, in single quotes, without quotes.

In: a text, or its beginning. Out: objects and arrays with as much of them as could be read, never an error.
What the values mean is no matter of this module.

The text is read once from left to right, and no decision waits for later characters. So what is read of the
beginning of a text is the beginning of what is read of the whole text; a scalar counts once its end is there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field

MAX_DEPTH = 8
"""Levels of nested structures that are read; a deeper one ends the reading, as invalid JSON does."""

MAX_STRUCTURES = 500
"""Structures of a text that are read; later ones are ignored. It bounds the time for a text of brackets."""

MAX_STUCK = 8
"""Quotes without a closing quote after which the rest of a text is ignored.

The search for each closing quote goes to the end of the text, so many of them would take quadratic time.
"""


@dataclass(slots=True)
class Object:
    """A JSON object, as far as it could be read.

    Attributes:
        members: names and values in the order of the text; a name may come twice.
        closed: whether its closing brace was read.
    """

    members: list[tuple[str, Value]] = field(default_factory=list)
    closed: bool = False


@dataclass(slots=True)
class Array:
    """A JSON array, as far as it could be read.

    Attributes:
        entries: values in the order of the text.
        closed: whether its closing bracket was read.
    """

    entries: list[Value] = field(default_factory=list)
    closed: bool = False


Value = str | int | float | bool | None | Object | Array


@dataclass(frozen=True, slots=True)
class Structure:
    """An outermost object or array of a text.

    Attributes:
        value: content that could be read.
        start: offset of its opening bracket in the text.
        end: offset after its closing bracket, or of the first character that could not be read.
        loose: whether it is not valid JSON: other quotes, missing quotes, or a comma too many.
        stuck: whether a quote in it has no closing quote.
    """

    value: Object | Array
    start: int
    end: int
    loose: bool
    stuck: bool


def structures(text: str) -> Iterator[Structure]:
    """Yields every object and array of a text that is not inside of another one, in order."""
    at = stuck = 0
    for _ in range(MAX_STRUCTURES):
        found = _OPENER.search(text, at)
        if found is None:
            return
        structure = read_structure(text, found.start())
        yield structure
        at = structure.end
        stuck += structure.stuck
        # Text after an open double quote is inside of a string that was cut off: it holds no structures.
        if stuck > MAX_STUCK or (structure.stuck and text[at:].lstrip().startswith('"')):
            return


def read_structure(text: str, start: int) -> Structure:
    """Reads the object or array whose opening bracket is at offset ``start``, as far as it is valid."""
    reader = _Reader(text, start)
    value: Object | Array = Object() if text[start] == "{" else Array()
    # The reader fills the value as it goes, so that it holds everything before the first invalid token.
    with suppress(_InvalidError):
        reader.fill(value, 1)
    return Structure(value, start, reader.at, reader.loose, reader.stuck)


@dataclass(frozen=True, slots=True)
class Member:
    """A member of an object.

    Attributes:
        value: value of the member.
        object: object that the member belongs to; None where the text lacks the braces around the member.
    """

    value: Value
    object: Object | None = None


def members(value: Value, wanted: Callable[[str], bool]) -> list[Member]:
    """Returns an object's own members whose name is wanted, in order; none for a value of another type."""
    if not isinstance(value, Object):
        return []
    return [Member(member, value) for name, member in value.members if wanted(name.strip())]


def deep_members(value: Value, wanted: Callable[[str], bool]) -> Iterator[Member]:
    """Yields an object's members whose name is wanted; without any, those of the structures inside of it."""
    own = members(value, wanted)
    yield from own
    if not own:
        for inner in _inner(value):
            yield from deep_members(inner, wanted)


def name_before(text: str, structure: Structure) -> str:
    """Returns the member's name that stands before a structure, as in ``"ranking": [``; empty without one.

    Only an outermost structure has one, where the text lacks the brace of the object around it.
    """
    found = _NAME_BEFORE.search(text[max(0, structure.start - 50) : structure.start])
    return found[1] if found else ""


def is_last(text: str, structure: Structure) -> bool:
    """Tells whether nothing but a code fence follows a structure."""
    return not text[structure.end :].strip(" \t\r\n`*.")


def _inner(value: Value) -> list[Value]:
    if isinstance(value, Object):
        return [member for _, member in value.members]
    return value.entries if isinstance(value, Array) else []


_OPENER = re.compile(r"[\[{]")
# Possessive quantifiers (*+, ++) throughout: no text, however it is made, can cause backtracking that takes
# long. Where a part may itself go back, an atomic group says the same: Python before 3.11.5 repeats such a
# part possessively in a wrong way. A single quote ends a string only before a mark, since models write
# 'it's'. A bare word needs a character after it, since at the end of a streamed text it may go on.
_TOKEN = re.compile(
    r"""\s*+(?:
      (?P<mark>[\[\]{},:])
    | "(?P<string>(?:[^"\\]++|\\.)*+)"
    | '(?P<single>(?>(?:[^'\\]++|\\.|'(?!\s*+[,\]}:]))*))'(?=\s*+[,\]}:])
    | “(?P<curly>[^”]*+)”
    | (?P<word>[^\s\[\]{},:"'“”]++)(?=.)
    )""",
    re.VERBOSE | re.DOTALL,
)
_NAME_BEFORE = re.compile(r"""["'](\w{1,30})["']\s{0,4}:\s{0,4}$""")
# At most 18 digits, so that no number costs more than a machine word to convert.
_NUMBER = re.compile(r"-?\d{1,18}")
_FRACTION = re.compile(r"-?\d{1,18}(?:\.\d+)?(?:[eE][-+]?\d{1,3})?")
_CONSTANTS = {"true": True, "false": False, "null": None}


class _InvalidError(Exception):
    """The next token cannot stand here, or the text ends."""


class _Reader:
    """Recursive descent parser of one structure.

    Attributes:
        at: offset in the text at which the next token begins.
        loose: whether anything read so far was not valid JSON.
        stuck: whether no token begins at the offset: a quote has no closing quote, or the text ends.
    """

    def __init__(self, text: str, at: int) -> None:
        self._text = text
        self.at = at
        self.loose = False
        self.stuck = False

    def fill(self, value: Object | Array, depth: int) -> None:
        """Reads a structure's content into ``value``, from the opening bracket at ``self.at`` on.

        Raises:
            _InvalidError: an invalid token, or the text's end, came before the closing bracket; ``value``
                holds everything before it.
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
            # The member or entry is already in the value: an invalid token after it takes nothing away.
            self._expect(token, ",")
            after_comma = True
        self.at = token.end()
        value.closed = True

    def _member(self, token: re.Match[str], value: Object, depth: int) -> None:
        if token["mark"]:
            raise _InvalidError
        name = self._scalar(token)
        self.loose |= token["word"] is not None
        self._expect(self._token(), ":")
        token = self._token()
        inner = self._begun(token, depth)
        # An inner structure is appended before it is filled, so that one that is cut off is kept.
        value.members.append((str(name), self._scalar(token) if inner is None else inner))
        if inner is not None:
            self.fill(inner, depth + 1)

    def _entry(self, token: re.Match[str], value: Array, depth: int) -> None:
        inner = self._begun(token, depth)
        value.entries.append(self._scalar(token) if inner is None else inner)
        if inner is not None:
            self.fill(inner, depth + 1)

    def _begun(self, token: re.Match[str], depth: int) -> Object | Array | None:
        """The empty structure whose opening bracket a token is; None for a scalar."""
        mark = token["mark"]
        if not mark:
            return None
        if mark not in "[{" or depth >= MAX_DEPTH:
            raise _InvalidError
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

    def _expect(self, token: re.Match[str], mark: str) -> None:
        if token["mark"] != mark:
            raise _InvalidError
        self.at = token.end()

    def _token(self) -> re.Match[str]:
        found = _TOKEN.match(self._text, self.at)
        if found is None:
            self.stuck = True
            raise _InvalidError
        return found


def _decoded(string: str) -> str:
    """The content of a double-quoted string, with its escapes undone; as it stands if they are invalid."""
    if "\\" not in string:  # nearly all strings; quicker than a JSON parser
        return string
    try:
        decoded: str = json.loads(f'"{string}"', strict=False)
    except ValueError:
        return string
    return decoded
