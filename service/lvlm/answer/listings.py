"""Finds rankings that are no JSON object: bare arrays, ``A > B > C``, numbered lines, ``C, A, B``.

In: a text without thoughts and marks. Out: all listings of one kind, in the text's order; ``other_forms``
chooses among them. To tell them from prose, every part of a chain and every numbered line must begin with a
label or number, or most of them with a title.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from service.lvlm.answer.entries import Candidates, LeadingItem
from service.lvlm.answer.loose_json import Array, Structure, Value
from service.lvlm.answer.prefaces import COLONS, DECORATION, announces, introduces, is_offered, last_refusal

MAX_ENUMERATION = 2_000
"""Characters of a text beyond which no mere enumeration is looked for in it: a longer text is prose."""

MAX_LISTINGS = 8
"""Listings of a kind that are looked at in one answer, the last ones; earlier ones are ignored."""


@dataclass(frozen=True, slots=True)
class Listing:
    """Entries in an order, as they stand in a text.

    Attributes:
        entries: labels, numbers, titles or objects, best first.
        alone: whether the text holds nothing else, except one line before it that ends with a colon.
        plain: whether it is a JSON array of strings.
        titled: whether every entry came with a candidate's title.
        closed: whether its closing bracket was read; True for kinds without brackets.
        rest: whether any text follows a JSON array.
    """

    entries: Sequence[Value]
    alone: bool
    plain: bool = False
    titled: bool = False
    closed: bool = True
    rest: bool = False


def arrays(text: str, found: Iterable[Structure], *, plain: bool) -> list[Listing]:
    """Finds the arrays among JSON structures that have no name before them.

    Args:
        text: text that the structures stand in.
        found: structures.
        plain: whether to find valid JSON arrays of strings; False for all other arrays.
    """
    candidates = deque((each for each in found if _is_array(each, plain=plain)), maxlen=MAX_LISTINGS)
    return [listing for structure in candidates if (listing := _array(text, structure))]


def chains(text: str, candidates: Candidates, *, finished: bool) -> list[Listing]:
    """Finds lines like ``[C] > [A] > [B]``.

    Args:
        text: the model's text.
        candidates: candidates as the prompt showed them.
        finished: whether the text is the model's whole answer. If not, a last part that more text could
            change is left out.
    """
    lines = deque((line for line in _chain_lines(text) if _ABOVE_MARK.search(line.text)), maxlen=MAX_LISTINGS)
    return [listing for line in lines if (listing := _chain(text, line, candidates, finished))]


def numbered(text: str, candidates: Candidates, *, finished: bool) -> list[Listing]:
    """Finds lines like ``1. C``, ``2) **A** – because …``, ``3: the title``; arguments as for ``chains``."""
    blocks: deque[list[_Line]] = deque(maxlen=MAX_LISTINGS)
    for line in _item_lines(text, candidates):
        found = _NUMBERED.match(line.text)
        if found is None:
            continue
        rank, item = int(found["rank"]), _Line(found["item"], line.start, line.end)
        if rank == 1:
            blocks.append([item])
        # Lines without a number, such as reasons, do not end a block; a number out of turn is left out.
        elif blocks and rank == len(blocks[-1]) + 1:
            blocks[-1].append(item)
    return [listing for block in blocks if (listing := _numbered(text, block, candidates, finished))]


def enumeration(text: str, candidates: Candidates, *, finished: bool) -> list[Listing]:
    """Finds labels or numbers with nothing but commas or lines between them; arguments as for ``chains``."""
    if (
        len(text) > MAX_ENUMERATION
        or "{" in text
        or text.count("[") != text.count("]")
        or _MEMBER_NAME.search(text)
    ):
        return []  # too long, JSON, or the rest of some
    lines = [line for line in _lines(text) if not _BLANK_LINE.fullmatch(line.text)]
    # "Ranking:" above the enumeration, or before it in the same line.
    if len(lines) > 1 and lines[0].text.rstrip(DECORATION).endswith(COLONS):
        preface, listed = lines[0].text, [line.text for line in lines[1:]]
    else:
        preface, _, first = lines[0].text.rpartition(":") if lines else ("", "", "")
        listed = [first, *(line.text for line in lines[1:])]
    parts = [part.lstrip(" \t-*•") for line in listed for part in re.split(r"[,;]", line.rstrip(",; "))]
    items = [candidates.leading_item(part) for part in parts]
    names = [item.entry for item in items if item and item.short and item.whole]
    upper = all(name.isupper() or name.isdigit() for name in names)
    if not upper or not 2 <= len(names) == len(parts):
        return []
    # Numbers may count anything, so they need words that announce a ranking.
    numbers = any(name.isdigit() for name in names)
    if (preface or numbers) and not announces(preface):
        return []
    if not finished and not text.endswith("\n") and _may_be_cut(parts[-1], candidates):
        del names[-1]
    return [Listing(names, alone=False)]  # "A, B" may be prose: it counts only if it is all there


# --- one listing of each kind -------------------------------------------------------------------------------


def _is_array(structure: Structure, *, plain: bool) -> bool:
    value = structure.value
    if not isinstance(value, Array) or not value.entries:
        return False
    return plain is (not structure.loose and all(isinstance(entry, str) for entry in value.entries))


def _array(text: str, structure: Structure) -> Listing | None:
    assert isinstance(structure.value, Array)
    plain = _is_array(structure, plain=True)
    # After a quote without end the rest of the text is the beginning of an entry, not text behind the array.
    end = len(text) if structure.stuck else structure.end
    surroundings = _surroundings(text, structure.start, end)
    offered = is_offered(text, structure.start, end, closed=structure.value.closed, named=False)
    if not offered or surroundings.denied or not (plain or surroundings.own_line):
        return None
    return Listing(
        structure.value.entries,
        alone=surroundings.alone,
        plain=plain,
        closed=structure.value.closed,
        rest=surroundings.rest,
    )


def _chain(text: str, line: _Line, candidates: Candidates, finished: bool) -> Listing | None:
    parts = [part.strip() for part in _ABOVE_MARK.split(line.text)]
    if not parts[0]:  # a ">" at the beginning of a line is Markdown's mark of a quotation
        del parts[0]
    dangling = bool(parts) and not parts[-1].strip(DECORATION)  # the text ends with "A > B >"
    if dangling:
        del parts[-1]
    surroundings = _surroundings(text, line.start, line.end)
    if len(parts) < 2 or surroundings.denied:
        return None
    first = _after_preface(parts[0], candidates) or parts[0]
    preface = parts[0].removesuffix(first)
    if preface.strip() and not announces(preface):
        return None
    last, rest = _before_rest(parts[-1], candidates)
    parts = [first, *parts[1:-1], last]
    if not (preface.strip() or surroundings.announced) and _is_alphabet(parts):
        return None  # a formula
    items = [_whole_item(part, candidates) for part in parts]
    open_end = not (finished or dangling or rest or surroundings.rest or line.ended)
    if open_end and (items[-1] is None or _may_be_cut(last, candidates)):
        del parts[-1], items[-1]
    return _listing(items, parts, alone=surroundings.alone and not rest)


def _is_alphabet(parts: Sequence[str]) -> bool:
    """Whether parts are small letters in alphabetical order, like variables: ``x > y > z``."""
    return all(len(part) == 1 and part.islower() for part in parts) and list(parts) == sorted(parts)


def _numbered(text: str, block: list[_Line], candidates: Candidates, finished: bool) -> Listing | None:
    surroundings = _surroundings(text, block[0].start, _end_of_block(text, block[-1].end))
    if surroundings.denied:
        return None
    parts = [line.text for line in block]
    items = [candidates.leading_item(part) for part in parts]
    open_end = not finished and block[-1].end >= len(text)
    if open_end and (items[-1] is None or (items[-1].whole and _may_be_cut(parts[-1], candidates))):
        del parts[-1], items[-1]
    return _listing(items, parts, alone=surroundings.alone)


def _listing(items: Sequence[LeadingItem | None], parts: Sequence[str], *, alone: bool) -> Listing | None:
    entries = _entries(items, parts)
    if not entries:
        return None
    titled = all(item is not None and item.titled for item in items)
    return Listing(entries, alone=alone, titled=titled)


def _entries(items: Sequence[LeadingItem | None], texts: Sequence[str]) -> list[str] | None:
    """The entries of a listing; None unless all of them are labels or numbers, or most of them titles."""
    found = [item.entry if item else text for item, text in zip(items, texts, strict=True)]
    if any(item is not None and item.short for item in items):
        return found if all(items) else None
    titles = sum(item is not None for item in items)
    return found if titles > len(found) - titles else None


def _whole_item(part: str, candidates: Candidates) -> LeadingItem | None:
    """The item that a part consists of; None if the part is anything else, or holds more."""
    item = candidates.leading_item(part)
    return item if item is not None and (item.whole or item.titled) else None


def _after_preface(part: str, candidates: Candidates) -> str | None:
    """The item at the end of ``Here is the ranking: [C]``; the part itself if it is an item, None without."""
    verb = _TO_BE.search(part)  # "The final answer is C"
    tails = (part, part.partition(":")[2], part.rpartition(":")[2], part[verb.end() :] if verb else "")
    return next((tail for tail in tails if tail and _whole_item(tail, candidates)), None)


def _before_rest(part: str, candidates: Candidates) -> tuple[str, bool]:
    """The item at the beginning of ``B. They are blue.``, and whether any text follows it."""
    if _whole_item(part, candidates):
        return part, False
    if (found := _END_OF_CHAIN.search(part)) and _whole_item(part[: found.start()], candidates):
        return part[: found.start()], True
    return part, False


def _may_be_cut(part: str, candidates: Candidates) -> bool:
    """Whether a part at the end of the text may be the beginning of a longer entry."""
    return part.rstrip()[-1:] not in tuple("])*`\"'.") and candidates.may_continue(part)


# --- where a listing stands ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Line:
    """A line, or a part of one that is read like a line.

    Attributes:
        text: content without the line's end.
        start: offset of the line in the whole text.
        end: offset after the line's content.
        ended: whether a line end follows, so that the line cannot become longer.
    """

    text: str
    start: int
    end: int
    ended: bool = False


@dataclass(frozen=True, slots=True)
class _Surroundings:
    """The text around a listing.

    Attributes:
        own_line: whether its lines hold nothing else, except words before it that end with a colon.
        alone: whether the text holds nothing else, except one line before it that ends with a colon.
        rest: whether any text follows it.
        announced: whether the words before it announce a ranking.
        denied: whether the words before it introduce something else, or the text after it refuses to answer.
    """

    own_line: bool
    alone: bool
    rest: bool
    announced: bool
    denied: bool


def _surroundings(text: str, start: int, end: int) -> _Surroundings:
    begin = text.rfind("\n", 0, start) + 1
    beside = text[begin:start].strip(DECORATION)
    stop = text.find("\n", end)
    behind = text[end : len(text) if stop < 0 else stop].strip(DECORATION)
    lines = [line for line in text[:begin].splitlines()[-MAX_LINES:] if not _BLANK_LINE.fullmatch(line)]
    before = [*lines, *([beside] if beside else [])]
    preface = before[-1].rstrip(DECORATION) if before else ""
    prefaced = preface.endswith(COLONS)
    announced = introduces(preface) and announces(preface)
    rest = bool(text[end:].strip(DECORATION))
    return _Surroundings(
        own_line=not behind and (not beside or beside.endswith(COLONS)),
        alone=not rest and (not before or (len(before) == 1 and prefaced)),
        rest=rest,
        announced=announced,
        denied=(introduces(preface) and not announced) or last_refusal(text[end:]) >= 0,
    )


def _lines(text: str) -> Iterator[_Line]:
    """The lines of a text that are not empty."""
    at = 0
    for line in text.splitlines(keepends=True):
        whole = line.rstrip("\r\n\v\f\x1c\x1d\x1e\x85\u2028\u2029")  # all that splitlines takes for line ends
        if whole and not whole.isspace():
            yield _Line(whole, at, at + len(whole), ended=len(whole) < len(line))
        at += len(line)


def _chain_lines(text: str) -> Iterator[_Line]:
    """The lines of a text, with one that ends with ``>`` joined to the next."""
    pieces: list[_Line] = []
    for line in _lines(text):
        pieces.append(line)
        if not line.text.rstrip().endswith(_ABOVE_MARKS):
            yield _join(pieces)
            pieces = []
    if pieces:
        yield _join(pieces)


def _item_lines(text: str, candidates: Candidates) -> Iterator[_Line]:
    """The lines of a text, with one like ``1. C 2. A 3. B`` split into three."""
    for line in _lines(text):
        ends = [found.start() for found in _NEXT_NUMBER.finditer(line.text)]
        pieces = [line.text[begin:end] for begin, end in pairwise([0, *ends, len(line.text)])]
        numbered_pieces = [_NUMBERED.match(piece.rstrip(" ,;")) for piece in pieces] if ends else [None]
        items = [candidates.leading_item(each["item"]) if each else None for each in numbered_pieces]
        if all(item is not None and item.short and item.whole for item in items):
            yield from (_Line(each[0], line.start, line.end, line.ended) for each in numbered_pieces if each)
        else:
            yield line


def _join(pieces: Sequence[_Line]) -> _Line:
    text = " ".join(piece.text for piece in pieces)
    return _Line(text, pieces[0].start, pieces[-1].end, pieces[-1].ended)


def _end_of_block(text: str, end: int) -> int:
    """The offset after the indented lines that follow the last numbered line and belong to it."""
    stop = end
    for line in _lines(text[end:]):
        if line.start and not line.text.startswith((" ", "\t")):
            return stop
        stop = end + line.end
    return len(text)


MAX_LINES = 100
"""Lines before a listing in which its preface is looked for; the text above them is not read."""

# Of no words: empty, emphasis, or the beginning or end of a code block.
_BLANK_LINE = re.compile(r"\s*+(?:```[a-z0-9]*+)?[\s*_`]*+", re.IGNORECASE)
_ABOVE_MARK = re.compile(r"[-=]{0,2}>+|≻|≽|＞|→|⇒|»|(?:&gt;)+|\\succ(?:eq)?(?![a-z])")
_ABOVE_MARKS = (">", "≻", "≽", "＞", "→", "⇒", "»", "&gt;", "\\succ")
# What may follow the last part of a chain, before prose: "B. They are blue", "B (the blue one)".
_END_OF_CHAIN = re.compile(r"\.\s|;|\s\(|,\s|\s[–—]\s")
# "1. C", "2) **A**", "**Rank 3:** B", "- 4. D"; not "1.5", which is no rank.
_NUMBERED = re.compile(
    r"""[\s>*_\-•\#\[(]{0,8}+(?:(?:rank|no|place)\b\.?\s?)?[*_]{0,2}
        (?P<rank>\d{1,3})[*_]{0,2}\s?(?:[.:)\]](?!\d)|[-–—](?=\s))[*_]{0,2}
        \s{0,8}(?P<item>\S.*)""",
    re.VERBOSE | re.IGNORECASE,
)
_MEMBER_NAME = re.compile(r"""["']\s{0,4}:""")
_NEXT_NUMBER = re.compile(r"(?<=[\s,;])\(?\d{1,3}[.)]\s")
_TO_BE = re.compile(r"\b(?:is|be|are)\s+(?=\S+$)")
