"""Tells by the words around a listing whether it is the ranking, something else, or a refusal.

A listing that words introduce is a ranking only if they announce one. The prompt's own candidates, examples
and what is left out are introduced too, by more words than a list of forbidden ones could hold.
"""

from __future__ import annotations

import re

from service.lvlm.answer.thoughts import unmarked

MAX_PREFACE = 2_000
"""Characters before a listing in which its preface is looked for; what stands before them is not read."""


def introduces(line: str) -> bool:
    """Tells whether a line is about what comes next: it ends with a colon, or is a heading."""
    return line.rstrip(DECORATION).endswith(COLONS) or line.lstrip().startswith("#")


def announces(preface: str) -> bool:
    """Tells whether words before a listing say that it is the ranking."""
    if denies(preface):
        return False
    return _RANKING.search(preface) is not None or (
        _HERE.search(preface) is not None and _POOL.search(preface) is None
    )


def denies(preface: str) -> bool:
    """Tells whether words before a listing say that it is not the ranking."""
    return _DENIAL.search(_HARMLESS.sub("", preface)) is not None


def last_refusal(text: str) -> int:
    """Returns the offset at which a text refuses to answer for the last time; -1 if it does not."""
    return max((found.start() for found in _REFUSAL.finditer(text)), default=-1)


def is_offered(text: str, start: int, end: int, *, closed: bool, named: bool) -> bool:
    """Tells whether JSON in a text is given as the answer, rather than talked about.

    Args:
        text: what the model said.
        start: offset of the JSON.
        end: offset after it.
        closed: whether its end is there; what follows something unfinished may belong to it.
        named: whether it stands under a name that means a ranking, so that a sentence may lead to it.
    """
    stop = text.find("\n", end)
    behind = unmarked(text[end : len(text) if stop < 0 else stop])
    if closed and _RUNS_ON.match(behind):
        return False
    before = unmarked(_NAME.sub("", text[max(0, start - MAX_PREFACE) : start]))
    *lines, beside = before.split("\n") if "\n" in before else ("", before)
    if not beside.strip(DECORATION + "{[("):
        above = next((line for line in reversed(lines) if line.strip(DECORATION)), "")
        above = _last_sentence(above)
        return not introduces(above) or announces(above) or (named and _may_lead(above))
    sentence = _last_sentence(beside)
    if introduces(sentence):
        return announces(sentence) or (named and _may_lead(sentence))
    return not sentence.strip(DECORATION) or (named and not denies(sentence))


def _may_lead(preface: str) -> bool:
    """Whether words may stand before JSON that says by a name what it is."""
    return not denies(preface) and _POOL.search(preface) is None


def _last_sentence(line: str) -> str:
    """What a line ends with after its last full stop or bracket."""
    return _SENTENCE_END.split(line)[-1]


COLONS = (":", "：")
DECORATION = " \t\r\n*_`\"'“”.\ufeff"

_RANKING = re.compile(
    r"\b(?:re)?rank(?:s|ed|ing|ings)?\b|\border(?:ed|ing)?\b|\brecommend|\bsort(?:ed|ing)\b|\bprefer|\bsuggest"
    r"|\bbest\b|\bmost\b|\btop\b|\bfirst\b|\banswer\b|\bresults?\b|\boutput\b|\bresponse\b|\bfinal"
    r"|\bpicks?\b|\bselection\b|\bmy choices?\b",
    re.IGNORECASE,
)
_HERE = re.compile(
    r"\bhere(?:\s+(?:is|are|it|they|you|we)\b|['’]s\b)"
    r"|\b(?:sure|okay|ok|certainly|of course|so|now|thus|therefore)\b",
    re.IGNORECASE,
)
_POOL = re.compile(
    r"\b(?:candidates?|options?|choices|labels?|available|inputs?|pool|prompt|question|request|thoughts?)\b",
    re.IGNORECASE,
)
"""What a text may show "here" that is no ranking."""

_HARMLESS = re.compile(
    r"\b(?:best|better|most|first|highest)(?: \w+){0,2} to (?:the )?(?:worst|least|last|lowest)\b"
    r"|\b(?:in|as) (?:the |a )?(?:\w+ ){0,2}format\b|\byou(?:['’]ve| have)? asked for\b"
    r"|\bwould (?:probably |likely |most )?like\b|,? (?:which|that) (?:do|does) not [^:]*",
    re.IGNORECASE,
)
"""Words that deny nothing, though those of a denial are among them."""

_DENIAL = re.compile(
    r"\b(?:no|not|none|never|cannot|without|against|wrong|worst|least|except|avoid|sorry|invalid|errors?"
    r"|examples?|instance|draft|reverse|scores?|ratings?|format|schema|template|like|such as|possible"
    r"|asked|asks?|told|choose|return|respond|reply|please|unable|exclud\w*|discard\w*|reject\w*)\b"
    r"|\bto (?:be )?(?:re)?(?:rank(?:ed)?|order(?:ed)?|sort(?:ed)?)\b|\be\.g\b|n['’]t\b",
    re.IGNORECASE,
)
_REFUSAL = re.compile(
    r"\b(?:I|we)\s(?:really\s|just\s)?(?:can(?:not|\snot|['’]t)|won['’]t|will\snot|refuse|decline|must\s(?:refuse|decline))\b"
    r"|\b(?:cannot|can['’]t|won['’]t)\s(?:help|assist|comply|decide|rank|answer|do\s(?:it|this|that))\b"
    r"|\b(?:unable|not\sable)\sto\b|\bsorry\b",
    re.IGNORECASE,
)
_RUNS_ON = re.compile(r"[\s`*\"'”)]*+[a-zß-öø-ÿ,;:?]")
_NAME = re.compile(r"""["']\w{1,30}["']\s{0,4}:\s{0,4}$""")
_SENTENCE_END = re.compile(r"(?<!e\.g)(?<!i\.e)[.!?]+(?:\s+|$)|[}\]]")
