"""Matches one entry of an answer (a label or a title) with the positions in the pool that it can mean.

Titles are matched as by the corrected evaluator of MSRBench (Zhou et al., WWW 2025): equal after normalising;
else, in the paper's form, an unambiguous prefix of at least 20 characters and 4 words, since some models
shorten titles; else the item is invented.
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
"""Length from which the beginning of a title stands for the title; a shorter beginning matches nothing."""

MAX_HEADING = 400
"""Characters at the beginning of a line in which an item is looked for; the rest of the line is not read."""

MAX_SPLITS = 6
"""Dashes and colons of a line at which a title may end; later ones are not tried."""


@dataclass(frozen=True, slots=True)
class LeadingItem:
    """The item that a line, or a part of a chain like ``A > B``, begins with.

    Attributes:
        entry: label, number or title.
        short: whether the entry is a label or a number; it need not be one of the candidates'.
        titled: whether the candidate's title is part of the line.
        whole: whether the line holds nothing else.
    """

    entry: str
    short: bool
    titled: bool
    whole: bool


class Candidates:
    """The candidates as the prompt showed them, found by label or by title.

    Args:
        names: names of the candidates as the prompt showed them (``prompts.shown_names``), by pool position.
        form: form of the prompt; in the paper's form the candidates have no labels.
    """

    def __init__(self, names: Sequence[str], form: Form) -> None:
        self.form = form
        self.size = len(names)
        self._names = names
        self._labels = _labels(self.size) if form == "label" else {}

    def positions(self, entry: str) -> Sequence[int]:
        """Returns the pool positions that an entry can mean; empty for an invented item.

        A label has one position, a title one for each candidate of that title.
        """
        position = self._labels.get(entry.strip(_AROUND).upper())
        return self.positions_of_title(entry) if position is None else (position,)

    def positions_of_title(self, entry: str) -> Sequence[int]:
        """Returns the pool positions of the candidates that have this title; empty for no title."""
        wanted = normalise(entry)
        found = self._titles.get(wanted, ()) if wanted else ()
        return found or (self._prefixed(wanted) if self.form == "paper" else ())

    def leading_item(self, line: str) -> LeadingItem | None:
        """Returns the item that a line begins with; None if it begins with anything else."""
        line = line[:MAX_HEADING].strip()
        if self.positions_of_title(line):
            return LeadingItem(line, short=False, titled=True, whole=True)
        return self._leading_label(line) or self._leading_title(line)

    def may_continue(self, entry: str) -> bool:
        """Tells whether more text could turn an entry into another one, as ``A`` into ``AB`` or 1 into 12."""
        short = entry.strip(_AROUND).upper()
        if number(entry) is not None:
            return 10 * int(short) <= self.size
        if short in self._labels:
            return any(other.startswith(short) and other != short for other in self._labels)
        wanted = normalise(entry)
        return any(title.startswith(wanted) and title != wanted for title in self._titles)

    def _leading_label(self, line: str) -> LeadingItem | None:
        """A label or number that ends the line, or that a title or a separated reason follows."""
        found = _SHORT.match(line)
        if found is None or (self.form == "paper" and not found["name"].isdigit()):
            return None
        name, rest = found["name"], line[found.end() :]
        if not rest.strip(_AROUND):
            return LeadingItem(name, short=True, titled=False, whole=True)
        position = self._labels.get(name.upper())
        own = None if position is None else normalise(self._names[position])
        titled = bool(own) and normalise(rest.lstrip(" \t:.-–—|(*_`\"'“")).startswith(own or " ")
        # A bare small letter, as in "a - nice mug", is more often a word of prose than a label.
        distinct = bool(found["open"] or found["close"]) or name.isupper() or name.isdigit()
        if titled or (distinct and _SEPARATED.match(rest)):
            return LeadingItem(name, short=True, titled=titled, whole=False)
        return None

    def _leading_title(self, line: str) -> LeadingItem | None:
        """A title that quotes or a separator set off from what follows it."""
        for piece in _title_pieces(line):
            if self.positions_of_title(piece):
                return LeadingItem(piece, short=False, titled=True, whole=False)
        return None

    @cached_property
    def _titles(self) -> Mapping[str, tuple[int, ...]]:  # computed late: answers by label rarely need it
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
    """Returns the number that an entry consists of; None unless it has one to three digits."""
    short = entry.strip(_AROUND)
    return int(short) if len(short) <= 3 and short.isascii() and short.isdigit() else None


def normalise(title: str) -> str:
    """Returns a title without what models often change in it: case, spaces, quotes, an ellipsis."""
    folded = unicodedata.normalize("NFKC", title).casefold()
    return " ".join(folded.split()).strip(" \"'`*…").removesuffix("...").rstrip(" .")


@cache
def _labels(size: int) -> Mapping[str, int]:
    return {label(position): position for position in range(size)}


def _title_pieces(line: str) -> Iterator[str]:
    """Beginnings of a line that may be a title: a quoted one, then those before separators, longest first."""
    if quoted := _QUOTED.match(line):
        yield quoted["inner"]
    ends = [found.start() for _, found in zip(range(MAX_SPLITS), _SEPARATOR.finditer(line), strict=False)]
    for end in reversed(ends):
        yield line[:end]


_AROUND = " \t\r\n[](){}<>\"'`*.:_“”‘’"
"""Characters that models put around a label: brackets, quotes, Markdown's emphasis, full stops."""

# "[C]", "**C**", "item 3", "(12)": one or two letters or up to three digits, with what surrounds them.
_SHORT = re.compile(
    r"""[\s*_`"'“‘]*+
        (?:(?:item|candidate|option|label|product)[\s:]\s*+)?+
        (?P<open>[*_`"'“‘\[({]*+)
        (?P<name>[a-z]{1,2}|\d{1,3})(?![a-z0-9])
        (?P<close>[*_`"'”’\])}]*+)""",
    re.VERBOSE | re.IGNORECASE,
)
# What may follow a label before a reason; then what may end a title, which can hold commas and full stops.
_SEPARATED = re.compile(r"\s*[:–—|]|\s+-+\s|\.(?=\s)|\s+\(|\s+=\s|,\s(?=[a-z])")
_SEPARATOR = re.compile(r"\s*[–—|]|\s+-+\s|:\s|\s\(|;\s")
_QUOTED = re.compile(r"""\s*(?:\*\*|__|["“`'‘])(?P<inner>.+?)(?:\*\*|__|["”`'’])(?:\s|[:–—|(.,-]|$)""")
