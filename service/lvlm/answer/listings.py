"""Finds rankings that are no JSON object: arrays by themselves, ``A > B > C``, numbered lines, ``C, A, B``.

A listing is one only entry by entry: every part of a chain and every numbered line must begin with a label,
or most of them with a title. So hardly any prose is.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from service.lvlm.answer.entries import Candidates, Heading
from service.lvlm.answer.loose_json import Array, Structure, Value
from service.lvlm.answer.prefaces import COLONS, DECORATION, announces, introduces, is_offered, last_refusal

MAX_ENUMERATION = 2_000
"""Characters of a text beyond which it is not read as a mere enumeration: so long a one is prose."""

MAX_LISTINGS = 8
"""Listings of a kind that are looked at in one answer, the last ones, since it may be endless."""


@dataclass(frozen=True, slots=True)
class Listing:
    """Entries in an order, as they stand in a text.

    Attributes:
        entries: labels, numbers, titles or objects, best first.
        alone: whether nothing else stands there, but for one line before it that ends with a colon.
        plain: whether it is a JSON array of strings.
        titled: whether every entry came with its title.
        closed: whether its end is there, or it needs none.
        rest: whether anything follows a JSON array.
    """

    entries: Sequence[Value]
    alone: bool
    plain: bool = False
    titled: bool = False
    closed: bool = True
    rest: bool = False


def arrays(text: str, found: Iterable[Structure], *, plain: bool) -> list[Listing]:
    """Finds the arrays among structures that belong to no key: JSON arrays of strings, or all others."""
    candidates = deque((each for each in found if _is_array(each, plain=plain)), maxlen=MAX_LISTINGS)
    return [listing for structure in candidates if (listing := _array(text, structure))]


def chains(text: str, candidates: Candidates, *, finished: bool) -> list[Listing]:
    """Finds lines like ``[C] > [A] > [B]``.

    Args:
        text: what the model said.
        candidates: items that its parts can mean.
        finished: whether the text goes no further, so that its last part is whole.
    """
    lines = deque((line for line in _joined(text) if _ABOVE.search(line.text)), maxlen=MAX_LISTINGS)
    return [listing for line in lines if (listing := _chain(text, line, candidates, finished))]


def numbered(text: str, candidates: Candidates, *, finished: bool) -> list[Listing]:
    """Finds lines like ``1. C``, ``2) **A** – because …``, ``3: the title``; arguments as for ``chains``."""
    blocks: deque[list[_Line]] = deque(maxlen=MAX_LISTINGS)
    for line in _one_by_one(text, candidates):
        found = _NUMBERED.match(line.text)
        if found is None:
            continue
        rank, item = int(found["rank"]), _Line(found["item"], line.start, line.end)
        if rank == 1:
            blocks.append([item])
        # Other lines, such as reasons, do not end a block; a number out of turn is left out.
        elif blocks and rank == len(blocks[-1]) + 1:
            blocks[-1].append(item)
    return [listing for block in blocks if (listing := _numbered(text, block, candidates, finished))]


def enumeration(text: str, candidates: Candidates, *, finished: bool) -> list[Listing]:
    """Finds labels or numbers with nothing but commas or lines between them; arguments as for ``chains``."""
    if (
        len(text) > MAX_ENUMERATION
        or "{" in text
        or text.count("[") != text.count("]")
        or _MEMBER.search(text)
    ):
        return []  # endless, JSON, or what is left of it
    lines = [line for line in _lines(text) if not _BLANK.fullmatch(line.text)]
    if len(lines) > 1 and lines[0].text.rstrip(DECORATION).endswith(COLONS):
        preface, listed = lines[0].text, [line.text for line in lines[1:]]
    else:
        preface, _, first = lines[0].text.rpartition(":") if lines else ("", "", "")
        listed = [first, *(line.text for line in lines[1:])]
    parts = [part.lstrip(" \t-*•") for line in listed for part in re.split(r"[,;]", line.rstrip(",; "))]
    headings = [candidates.heading(part) for part in parts]
    names = [heading.entry for heading in headings if heading and heading.short and heading.whole]
    upper = all(name.isupper() or name.isdigit() for name in names)
    if not upper or not 2 <= len(names) == len(parts):
        return []
    numbers = any(name.isdigit() for name in names)  # of what, if nothing says so?
    if (preface or numbers) and not announces(preface):
        return []
    if not finished and not text.endswith("\n") and _cut(parts[-1], candidates):
        del names[-1]
    return [Listing(names, alone=False)]  # "A, B" may be prose: it counts only if it is all there


# --- chains and numbered lines ------------------------------------------------------------------------------


def _is_array(structure: Structure, *, plain: bool) -> bool:
    value = structure.value
    if not isinstance(value, Array) or not value.entries:
        return False
    return plain is (not structure.loose and all(isinstance(entry, str) for entry in value.entries))


def _array(text: str, structure: Structure) -> Listing | None:
    assert isinstance(structure.value, Array)
    plain = _is_array(structure, plain=True)
    end = len(text) if structure.stuck else structure.end  # what is not read is the beginning of an entry
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
    parts = [part.strip() for part in _ABOVE.split(line.text)]
    if not parts[0]:  # a quotation's mark
        del parts[0]
    dangling = bool(parts) and not parts[-1].strip(DECORATION)
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
        return None
    headings = [_all_of(part, candidates) for part in parts]
    open_end = not (finished or dangling or rest or surroundings.rest or line.ended)
    if open_end and (headings[-1] is None or _cut(last, candidates)):
        del parts[-1], headings[-1]
    return _listing(headings, parts, alone=surroundings.alone and not rest)


def _is_alphabet(parts: Sequence[str]) -> bool:
    """Whether parts are small letters in alphabetical order, like the variables ``x > y > z``."""
    return all(len(part) == 1 and part.islower() for part in parts) and list(parts) == sorted(parts)


def _numbered(text: str, block: list[_Line], candidates: Candidates, finished: bool) -> Listing | None:
    surroundings = _surroundings(text, block[0].start, _end_of_block(text, block[-1].end))
    if surroundings.denied:
        return None
    parts = [line.text for line in block]
    headings = [candidates.heading(part) for part in parts]
    open_end = not finished and block[-1].end >= len(text)
    if open_end and (headings[-1] is None or (headings[-1].whole and _cut(parts[-1], candidates))):
        del parts[-1], headings[-1]
    return _listing(headings, parts, alone=surroundings.alone)


def _listing(headings: Sequence[Heading | None], parts: Sequence[str], *, alone: bool) -> Listing | None:
    entries = _entries(headings, parts)
    if not entries:
        return None
    titled = all(heading is not None and heading.titled for heading in headings)
    return Listing(entries, alone=alone, titled=titled)


def _entries(headings: Sequence[Heading | None], texts: Sequence[str]) -> list[str] | None:
    """The entries of a listing; None if it is none: all must be labels, or most of them titles."""
    found = [heading.entry if heading else text for heading, text in zip(headings, texts, strict=True)]
    if any(heading is not None and heading.short for heading in headings):
        return found if all(headings) else None
    titles = sum(heading is not None for heading in headings)
    return found if titles > len(found) - titles else None


def _all_of(part: str, candidates: Candidates) -> Heading | None:
    """The item that the whole of a part is."""
    heading = candidates.heading(part)
    return heading if heading is not None and (heading.whole or heading.titled) else None


def _after_preface(part: str, candidates: Candidates) -> str | None:
    """The item at the end of ``Here is the ranking: [C]``; the part itself if it is one."""
    said = _IS.search(part)  # "The final answer is C"
    tails = (part, part.partition(":")[2], part.rpartition(":")[2], part[said.end() :] if said else "")
    return next((tail for tail in tails if tail and _all_of(tail, candidates)), None)


def _before_rest(part: str, candidates: Candidates) -> tuple[str, bool]:
    """The item at the beginning of ``B. They are blue.``, and whether anything follows it."""
    if _all_of(part, candidates):
        return part, False
    if (found := _END_OF_CHAIN.search(part)) and _all_of(part[: found.start()], candidates):
        return part[: found.start()], True
    return part, False


def _cut(part: str, candidates: Candidates) -> bool:
    """Whether a part that ends the text may be the beginning of another entry."""
    return part.rstrip()[-1:] not in tuple("])*`\"'.") and candidates.goes_on(part)


# --- where a listing stands ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Line:
    text: str
    start: int
    end: int
    ended: bool = False


@dataclass(frozen=True, slots=True)
class _Surroundings:
    """What stands around a listing.

    Attributes:
        own_line: whether nothing else is in its lines, but for words before it that end with a colon.
        alone: whether nothing else is in the text, but for one line before it that ends with a colon.
        rest: whether anything follows.
        announced: whether the words before it say that it is the ranking.
        denied: whether they say that it is something else, or what follows refuses to answer.
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
    lines = [line for line in text[:begin].splitlines()[-MAX_LINES:] if not _BLANK.fullmatch(line)]
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
    """The lines that are not empty."""
    at = 0
    for line in text.splitlines(keepends=True):
        whole = line.rstrip("\r\n\v\f\x1c\x1d\x1e\x85\u2028\u2029")
        if whole and not whole.isspace():
            yield _Line(whole, at, at + len(whole), ended=len(whole) < len(line))
        at += len(line)


def _joined(text: str) -> Iterator[_Line]:
    """Lines, of which one that ends with ``>`` goes on in the next."""
    pieces: list[_Line] = []
    for line in _lines(text):
        pieces.append(line)
        if not line.text.rstrip().endswith(_ABOVE_ENDS):
            yield _together(pieces)
            pieces = []
    if pieces:
        yield _together(pieces)


def _one_by_one(text: str, candidates: Candidates) -> Iterator[_Line]:
    """Lines, of which one like ``1. C 2. A 3. B`` is three."""
    for line in _lines(text):
        ends = [found.start() for found in _NEXT.finditer(line.text)]
        pieces = [line.text[begin:end] for begin, end in pairwise([0, *ends, len(line.text)])]
        items = [_NUMBERED.match(piece.rstrip(" ,;")) for piece in pieces] if ends else [None]
        headings = [candidates.heading(item["item"]) if item else None for item in items]
        if all(heading is not None and heading.short and heading.whole for heading in headings):
            yield from (_Line(item[0], line.start, line.end, line.ended) for item in items if item)
        else:
            yield line


def _together(pieces: Sequence[_Line]) -> _Line:
    text = " ".join(piece.text for piece in pieces)
    return _Line(text, pieces[0].start, pieces[-1].end, pieces[-1].ended)


def _end_of_block(text: str, end: int) -> int:
    """Where the lines end that belong to the last numbered one, since they are indented."""
    stop = end
    for line in _lines(text[end:]):
        if line.start and not line.text.startswith((" ", "\t")):
            return stop
        stop = end + line.end
    return len(text)


MAX_LINES = 100
"""Lines before a listing in which its preface is looked for."""

_BLANK = re.compile(r"\s*+(?:```[a-z0-9]*+)?[\s*_`]*+", re.IGNORECASE)
_ABOVE = re.compile(r"[-=]{0,2}>+|≻|≽|＞|→|⇒|»|(?:&gt;)+|\\succ(?:eq)?(?![a-z])")
_ABOVE_ENDS = (">", "≻", "≽", "＞", "→", "⇒", "»", "&gt;", "\\succ")
_END_OF_CHAIN = re.compile(r"\.\s|;|\s\(|,\s|\s[–—]\s")
_NUMBERED = re.compile(
    r"""[\s>*_\-•\#\[(]{0,8}+(?:(?:rank|no|place)\b\.?\s?)?[*_]{0,2}
        (?P<rank>\d{1,3})[*_]{0,2}\s?(?:[.:)\]](?!\d)|[-–—](?=\s))[*_]{0,2}
        \s{0,8}(?P<item>\S.*)""",
    re.VERBOSE | re.IGNORECASE,
)
_MEMBER = re.compile(r"""["']\s{0,4}:""")
_NEXT = re.compile(r"(?<=[\s,;])\(?\d{1,3}[.)]\s")
_IS = re.compile(r"\b(?:is|be|are)\s+(?=\S+$)")
