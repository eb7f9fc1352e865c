"""Tells by the words around a listing whether it is the ranking, something else, or a refusal.

In: text before and after a listing. Out: yes or no. What the listing holds is not looked at here. The words
are English ones: other languages are taken for prose that says nothing.

A listing that words introduce counts only if they announce a ranking. Models also introduce the prompt's own
candidates, examples, and items that they leave out, in more ways than a list of forbidden words could hold.
"""

from __future__ import annotations

import re

from service.lvlm.answer.thoughts import without_marks

MAX_PREFACE = 2_000
"""Characters before a listing in which its preface is looked for; the text before them is not read."""


def introduces(line: str) -> bool:
    """Tells whether a line introduces what follows it: it ends with a colon, or is a Markdown heading."""
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
    """Returns the offset of the last refusal to answer in a text; -1 if it holds none."""
    return max((found.start() for found in _REFUSAL.finditer(text)), default=-1)


def is_offered(text: str, start: int, end: int, *, closed: bool, named: bool) -> bool:
    """Tells whether JSON in a text is given as the answer, rather than mentioned or quoted.

    Args:
        text: the model's text.
        start: offset of the JSON in it.
        end: offset after the JSON.
        closed: whether the JSON's closing bracket is there; text after one that is cut off belongs to it.
        named: whether the JSON stands under a name that means a ranking. Then any sentence may lead to it
            that does not deny it.
    """
    stop = text.find("\n", end)
    behind = without_marks(text[end : len(text) if stop < 0 else stop])
    if closed and _RUNS_ON.match(behind):  # `["A", "B"] are the blue ones`: part of a sentence
        return False
    before = without_marks(_NAME.sub("", text[max(0, start - MAX_PREFACE) : start]))
    *lines, beside = before.split("\n") if "\n" in before else ("", before)
    # Nothing stands in the line before it: the last line above that has words decides.
    if not beside.strip(DECORATION + "{[("):
        above = next((line for line in reversed(lines) if line.strip(DECORATION)), "")
        above = _last_sentence(above)
        return not introduces(above) or announces(above) or (named and _may_lead(above))
    sentence = _last_sentence(beside)
    if introduces(sentence):
        return announces(sentence) or (named and _may_lead(sentence))
    return not sentence.strip(DECORATION) or (named and not denies(sentence))


def _may_lead(preface: str) -> bool:
    """Whether words may stand before JSON whose name already says that it is a ranking."""
    return not denies(preface) and _POOL.search(preface) is None


def _last_sentence(line: str) -> str:
    """The end of a line after its last full stop or bracket."""
    return _SENTENCE_END.split(line)[-1]


COLONS = (":", "：")
"""Colons that end an introduction: the common and the full-width one."""

DECORATION = " \t\r\n*_`\"'“”.\ufeff"
"""Characters that say nothing: white space, Markdown's emphasis and code, quotes, a byte order mark."""

# Words that announce a ranking.
_RANKING = re.compile(
    r"\b(?:re)?rank(?:s|ed|ing|ings)?\b|\border(?:ed|ing)?\b|\brecommend|\bsort(?:ed|ing)\b|\bprefer|\bsuggest"
    r"|\bbest\b|\bmost\b|\btop\b|\bfirst\b|\banswer\b|\bresults?\b|\boutput\b|\bresponse\b|\bfinal"
    r"|\bpicks?\b|\bselection\b|\bmy choices?\b",
    re.IGNORECASE,
)
# Words that announce an answer of any kind; a ranking only where no word of _POOL is beside them.
_HERE = re.compile(
    r"\bhere(?:\s+(?:is|are|it|they|you|we)\b|['’]s\b)"
    r"|\b(?:sure|okay|ok|certainly|of course|so|now|thus|therefore)\b",
    re.IGNORECASE,
)
_POOL = re.compile(
    r"\b(?:candidates?|options?|choices|labels?|available|inputs?|pool|prompt|question|request|thoughts?)\b",
    re.IGNORECASE,
)
"""Nouns for lists that are no ranking, as in "here are the candidates:"."""

_HARMLESS = re.compile(
    r"\b(?:best|better|most|first|highest)(?: \w+){0,2} to (?:the )?(?:worst|least|last|lowest)\b"
    r"|\b(?:in|as) (?:the |a )?(?:\w+ ){0,2}format\b|\byou(?:['’]ve| have)? asked for\b"
    r"|\bwould (?:probably |likely |most )?like\b|,? (?:which|that) (?:do|does) not [^:]*",
    re.IGNORECASE,
)
"""Phrases that hold a word of ``_DENIAL`` and deny nothing; they are removed before it is looked for."""

# Words of introductions that say: this is not the ranking, but an example, a format, or what was left out.
_DENIAL = re.compile(
    r"\b(?:no|not|none|never|cannot|without|against|wrong|worst|least|except|avoid|sorry|invalid|errors?"
    r"|examples?|instance|draft|reverse|scores?|ratings?|format|schema|template|like|such as|possible"
    r"|asked|asks?|told|choose|return|respond|reply|please|unable|exclud\w*|discard\w*|reject\w*)\b"
    r"|\bto (?:be )?(?:re)?(?:rank(?:ed)?|order(?:ed)?|sort(?:ed)?)\b|\be\.g\b|n['’]t\b",
    re.IGNORECASE,
)
# First the refusals of a model that speaks of itself, then those of one that does not, with a verb.
_REFUSAL = re.compile(
    r"\b(?:I|we)\s(?:really\s|just\s)?(?:can(?:not|\snot|['’]t)|won['’]t|will\snot|refuse|decline|must\s(?:refuse|decline))\b"
    r"|\b(?:cannot|can['’]t|won['’]t)\s(?:help|assist|comply|decide|rank|answer|do\s(?:it|this|that))\b"
    r"|\b(?:unable|not\sable)\sto\b|\bsorry\b",
    re.IGNORECASE,
)
# A sentence that goes on behind the JSON: a small letter or a mark that ends no sentence.
_RUNS_ON = re.compile(r"[\s`*\"'”)]*+[a-zß-öø-ÿ,;:?]")
_NAME = re.compile(r"""["']\w{1,30}["']\s{0,4}:\s{0,4}$""")  # a member's name before its value
_SENTENCE_END = re.compile(r"(?<!e\.g)(?<!i\.e)[.!?]+(?:\s+|$)|[}\]]")
