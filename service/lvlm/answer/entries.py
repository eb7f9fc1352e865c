"""Tells what one entry of an answer means: a label, a number or a title becomes a position in the pool.

Matching titles follows the corrected evaluator of MSRBench: exact after normalising, else an unambiguous
prefix of at least 20 characters and 4 words (models that were told to shorten titles), else the item is
invented.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property

from service.lvlm.contracts import Form
from service.lvlm.prompt.prompts import label

MIN_PREFIX_CHARACTERS = 20
MIN_PREFIX_WORDS = 4
"""Length of a title's beginning from which it stands for the title."""

MAX_HEADING = 400
"""Characters of a line in which an item's name is looked for; the rest is not read."""

MAX_SPLITS = 6
"""Dashes and colons of a line at which its item's name may end; later ones are not tried."""


@dataclass(frozen=True, slots=True)
class Heading:
    """What a line or a part of a chain begins with.

    Attributes:
        entry: label, number or title.
        short: whether it is a label or a number, perhaps of no candidate.
        titled: whether the candidate's title stands there.
        whole: whether nothing else stands there.
    """

    entry: str
    short: bool
    titled: bool
    whole: bool


class Candidates:
    """The pool as the prompt showed it.

    Args:
        names: names of the candidates as they were shown.
        form: form of the prompt; in the paper's form the candidates have no labels.
    """

    def __init__(self, names: Sequence[str], form: Form) -> None:
        self.form = form
        self.size = len(names)
        self._names = names
        self._labels = _labels(self.size) if form == "label" else {}

    def meant(self, entry: str) -> Sequence[int]:
        """Returns the positions that an entry can mean, best first; none for an invented item."""
        position = self._labels.get(entry.strip(_AROUND).upper())
        return self.titled(entry) if position is None else (position,)

    def titled(self, entry: str) -> Sequence[int]:
        """Returns the positions whose title an entry is."""
        wanted = normalise(entry)
        found = self._titles.get(wanted, ()) if wanted else ()
        return found or (self._prefixed(wanted) if self.form == "paper" else ())

    def heading(self, line: str) -> Heading | None:
        """Returns the item that a line begins with; None if it begins with anything else."""
        line = line[:MAX_HEADING].strip()
        if self.titled(line):
            return Heading(line, short=False, titled=True, whole=True)
        return self._short(line) or self._name(line)

    def goes_on(self, entry: str) -> bool:
        """Tells whether an entry that may be cut off could become another one."""
        short = entry.strip(_AROUND).upper()
        if number(entry) is not None:
            return 10 * int(short) <= self.size
        if short in self._labels:
            return any(other.startswith(short) and other != short for other in self._labels)
        wanted = normalise(entry)
        return any(title.startswith(wanted) and title != wanted for title in self._titles)

    def _short(self, line: str) -> Heading | None:
        """A label or number with what follows it, if anything: a title, or a reason behind a separator."""
        found = _SHORT.match(line)
        if found is None or (self.form == "paper" and not found["name"].isdigit()):
            return None
        name, rest = found["name"], line[found.end() :]
        if not rest.strip(_AROUND):
            return Heading(name, short=True, titled=False, whole=True)
        position = self._labels.get(name.upper())
        own = None if position is None else normalise(self._names[position])
        titled = bool(own) and normalise(rest.lstrip(" \t:.-–—|(*_`\"'“")).startswith(own or " ")
        marked = bool(found["open"] or found["close"]) or name.isupper() or name.isdigit()
        if titled or (marked and _SEPARATED.match(rest)):
            return Heading(name, short=True, titled=titled, whole=False)
        return None

    def _name(self, line: str) -> Heading | None:
        """A title that is set off from what follows it."""
        for piece in _pieces(line):
            if self.titled(piece):
                return Heading(piece, short=False, titled=True, whole=False)
        return None

    @cached_property
    def _titles(self) -> Mapping[str, tuple[int, ...]]:  # hardly any answer with labels needs them
        found: dict[str, tuple[int, ...]] = {}
        for position, name in enumerate(self._names):
            title = normalise(name)
            found[title] = (*found.get(title, ()), position)
        return found

    def _prefixed(self, wanted: str) -> Sequence[int]:
        if len(wanted) < MIN_PREFIX_CHARACTERS or len(wanted.split()) < MIN_PREFIX_WORDS:
            return ()
        found = [positions for title, positions in self._titles.items() if title.startswith(wanted)]
        return found[0] if len(found) == 1 else ()


def number(entry: str) -> int | None:
    """Returns the number that a text is, if it is one of at most three digits."""
    short = entry.strip(_AROUND)
    return int(short) if len(short) <= 3 and short.isascii() and short.isdigit() else None


def normalise(title: str) -> str:
    """Returns a title without what models change of it: case, spaces, quotes, an ellipsis."""
    folded = unicodedata.normalize("NFKC", title).casefold()
    return " ".join(folded.split()).strip(" \"'`*…").removesuffix("...").rstrip(" .")


@cache
def _labels(size: int) -> Mapping[str, int]:
    return {label(position): position for position in range(size)}


def _pieces(line: str) -> Iterator[str]:
    """What may be the title that a line begins with, longest first."""
    if quoted := _QUOTED.match(line):
        yield quoted["inner"]
    ends = [found.start() for _, found in zip(range(MAX_SPLITS), _SEPARATOR.finditer(line), strict=False)]
    for end in reversed(ends):
        yield line[:end]


_AROUND = " \t\r\n[](){}<>\"'`*.:_“”‘’"
"""What may stand around a label."""

_SHORT = re.compile(
    r"""[\s*_`"'“‘]*+
        (?:(?:item|candidate|option|label|product)[\s:]\s*+)?+
        (?P<open>[*_`"'“‘\[({]*+)
        (?P<name>[a-z]{1,2}|\d{1,3})(?![a-z0-9])
        (?P<close>[*_`"'”’\])}]*+)""",
    re.VERBOSE | re.IGNORECASE,
)
_SEPARATED = re.compile(r"\s*[:–—|]|\s+-+\s|\.(?=\s)|\s+\(|\s+=\s|,\s(?=[a-z])")
_SEPARATOR = re.compile(r"\s*[–—|]|\s+-+\s|:\s|\s\(|;\s")
_QUOTED = re.compile(r"""\s*(?:\*\*|__|["“`'‘])(?P<inner>.+?)(?:\*\*|__|["”`'’])(?:\s|[:–—|(.,-]|$)""")
