from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.data.text import clean, clean_all


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
    ],
)
def test_text_reads_as_people_would_write_it(raw: object, text: str | None) -> None:
    assert clean(raw) == text


@given(st.text())
def test_cleaned_text_can_be_stored_and_has_no_line_breaks_or_outer_space(raw: str) -> None:
    text = clean(raw) or ""
    assert text.encode("utf-8").decode("utf-8") == text == " ".join(text.split())


def test_a_list_keeps_its_texts_alone() -> None:
    assert clean_all(["Home &amp; Garden", 3, "", None, "Mugs"]) == ("Home & Garden", "Mugs")
    assert clean_all("no list") == clean_all(None) == ()
