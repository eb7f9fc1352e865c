"""Cleans the texts of a catalogue: HTML entities decoded, markup removed, white space collapsed, cut."""

from __future__ import annotations

import html
import re

from models.data.report import ReadingReport

# Names of elements, so that "<3" and "Cable <Black>" stay what they are.
_TAGS = (
    "a|abbr|b|big|blockquote|body|br|center|code|dd|div|dl|dt|em|font|form|h[1-6]|head|hr|html|i|iframe|img|input|"
    "li|link|meta|object|ol|p|pre|s|script|small|span|strong|style|sub|sup|svg|table|tbody|td|tfoot|th|thead|tr|u|ul"
)
# What is not closed ends with the text: a search for its end from each beginning would be quadratic.
_PROGRAM = re.compile(r"<(script|style)\b[^<>]*>.*?(?:</\1\s*>|\Z)", re.IGNORECASE | re.DOTALL)
_MARKUP = re.compile(rf"<!--.*?(?:-->|\Z)|</?(?:{_TAGS})(?:\s[^<>]*)?/?>", re.IGNORECASE | re.DOTALL)

MARKUP_REMOVED = "markup was removed from them"
"""Reason under which a report counts texts that held markup."""

MAX_CHARACTERS = 10_000
"""Characters of a text at most: the titles of shops have hundreds, and a prompt holds thirty of them."""

CUT = f"they are longer than {MAX_CHARACTERS:,} characters: cut"
"""Reason under which a report counts texts that were cut."""


def clean(value: object, report: ReadingReport | None = None, place: str = "") -> str | None:
    """Decodes HTML entities, removes markup, collapses white space and cuts what is absurdly long.

    Args:
        value: field of a record, of any type.
        report: report that texts with markup and long ones are counted in, if any.
        place: where the record stands, for the report.

    Returns:
        The text; None when there is none (another type, or nothing but space).
    """
    if not isinstance(value, str):
        return None
    # Twice: some crawled titles were escaped two times over ("AVVA&amp;#8482"). A lone surrogate, which JSON
    # can spell and UTF-8 cannot, becomes a question mark.
    text = html.unescape(html.unescape(value)).encode("utf-8", "replace").decode("utf-8")
    if "<" in text:
        plain = _MARKUP.sub(" ", _PROGRAM.sub(" ", text))
        if plain != text and report is not None:
            report.change("texts", MARKUP_REMOVED, place)
        text = plain
    text = " ".join(text.split())
    if len(text) > MAX_CHARACTERS:
        if report is not None:
            report.change("texts", CUT, place)
        text = text[:MAX_CHARACTERS].rstrip()
    return text or None


def clean_all(value: object, report: ReadingReport | None = None, place: str = "") -> tuple[str, ...]:
    """Cleans every text of a list; anything else in it is left out."""
    if not isinstance(value, list):
        return ()
    return tuple(text for each in value if (text := clean(each, report, place)))
