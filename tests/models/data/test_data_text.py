from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.data.report import ReadingReport
from models.data.text import MAX_CHARACTERS, clean, clean_all


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ("Burt&#39;s Bees &amp; Co", "Burt's Bees & Co"),
        ("AVVA&amp;#8482 eyeliner", "AVVA™ eyeliner"),
        ("  two\n\tlines\u00a0here ", "two lines here"),
        ("a lone \ud800 surrogate", "a lone ? surrogate"),
        ("&nbsp; ", None),
        ("", None),
        (None, None),
        (17, None),
        (["no", "text"], None),
        ('<span class="a">Foo &amp;amp; Bar</span> <script>alert(1)</script>', "Foo & Bar"),
        ("one&lt;br/&gt;two <!-- three --> four <!-- five", "one two four"),
        ("I <3 mugs, size <M>, a < b > c", "I <3 mugs, size <M>, a < b > c"),
    ],
)
def test_text_reads_as_people_would_write_it(raw: object, text: str | None) -> None:
    assert clean(raw) == text


@given(st.text())
def test_cleaned_text_can_be_stored_and_has_no_line_breaks_or_outer_space(raw: str) -> None:
    text = clean(raw) or ""
    assert text.encode("utf-8").decode("utf-8") == text == " ".join(text.split())


def test_texts_with_markup_are_counted() -> None:
    report = ReadingReport()
    assert clean("<b>new</b> mug", report, "line 3") == "new mug"
    assert clean("old mug < new mug", report, "line 4") == "old mug < new mug"
    assert report.lines() == [("changed", "texts: markup was removed from them (1: line 3)")]


def test_an_absurdly_long_text_is_cut_and_counted() -> None:
    report = ReadingReport()
    text = clean("long " * 200_000, report, "line 3")
    assert text is not None
    assert len(text) <= MAX_CHARACTERS < len(text) + 2
    assert report.lines() == [("changed", "texts: they are longer than 10,000 characters: cut (1: line 3)")]


@pytest.mark.parametrize("part", ["<!--", "<script>", "<script ", "<b ", "&lt;a "])
def test_a_megabyte_of_markup_that_never_ends_takes_no_longer_than_text(part: str) -> None:
    clean(part * 200_000)  # without end, were it quadratic


def test_a_list_keeps_its_texts_alone() -> None:
    assert clean_all(["Home &amp; Garden", 3, "", None, "Mugs"]) == ("Home & Garden", "Mugs")
    assert clean_all("no list") == clean_all(None) == ()
