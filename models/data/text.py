"""Cleans the texts of a catalogue: HTML entities decoded, white space collapsed."""

from __future__ import annotations

import html


def clean(value: object) -> str | None:
    """Decodes HTML entities and collapses white space.

    Args:
        value: field of a record, of any type.

    Returns:
        The text; None when there is none (another type, or nothing but space).
    """
    if not isinstance(value, str):
        return None
    # Twice: some crawled titles were escaped two times over ("AVVA&amp;#8482"). A lone surrogate, which JSON
    # can spell and UTF-8 cannot, becomes a question mark.
    text = html.unescape(html.unescape(value)).encode("utf-8", "replace").decode("utf-8")
    return " ".join(text.split()) or None


def clean_all(value: object) -> tuple[str, ...]:
    """Cleans every text of a list; anything else in it is left out."""
    if not isinstance(value, list):
        return ()
    return tuple(text for text in map(clean, value) if text)
