"""What odd lines, odd ids, odd times and odd files become in McAuley's layouts."""

from __future__ import annotations

import gzip
import json
import logging
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_amazon_original import DAY, changed, grid, histories, left_out, products, review, write

from models.data import amazon, packed, registry
from models.data.mcauley import blocks, records
from models.data.mcauley.records import Records
from models.data.report import ReadingReport
from models.errors import DataError

PLAIN = {f"U{u}": [f"B{i}" for i in range(5)] for u in range(5)}
REVIEWS = "reviews_Toys_5.json"


def pair(folder: Path, reviews: bytes, meta: bytes | None = None) -> Path:
    (folder / REVIEWS).write_bytes(reviews)
    (folder / "meta_Toys.json").write_bytes("\n".join(products()).encode() if meta is None else meta)
    return folder


def lines(rows: list[str]) -> bytes:
    return "".join(row + "\n" for row in rows).encode()


def grid_with(**changes: Any) -> list[str]:
    """The grid, its first review with other values; None takes a field out."""
    first, *others = (json.loads(row) for row in grid())
    first = {key: value for key, value in {**first, **changes}.items() if value is not None}
    return [json.dumps(row) for row in (first, *others)]


@pytest.mark.parametrize(
    "reviews",
    [
        pytest.param(b"\xef\xbb\xbf" + lines(grid()), id="byte order mark"),
        pytest.param(lines(grid()).replace(b"\n", b"\r\n"), id="CRLF"),
        pytest.param(b"\n \n" + lines(grid()).replace(b"\n", b"\n\n\t\n"), id="blank lines"),
        pytest.param(lines(grid()).rstrip(), id="no end of the last line"),
        pytest.param(gzip.compress(lines(grid())), id="packed, without the suffix"),
        pytest.param(
            gzip.compress(lines(grid()[:9])) + gzip.compress(lines(grid()[9:])), id="packed twice in a row"
        ),
        pytest.param(lines([repr(json.loads(row)) for row in grid()]), id="Python literals"),
        pytest.param(b"[" + b",".join(lines(grid()).split(b"\n")[:-1]) + b"]", id="one array"),
        pytest.param(
            json.dumps([json.loads(row) for row in grid()], indent=2).encode(), id="one array, indented"
        ),
    ],
)
def test_a_file_in_another_form_has_the_same_data(
    tmp_path: Path, reviews: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "BLOCK", 100)  # records go over the ends of blocks
    dataset = amazon.read(pair(tmp_path, reviews))
    assert histories(dataset) == PLAIN
    assert dataset.report.lines() == []


def test_a_plain_file_with_the_suffix_of_a_packed_one_is_read(tmp_path: Path) -> None:
    (write(tmp_path, grid(), products()) / "reviews_Beauty_5.json.gz").write_bytes(lines(grid()))
    assert histories(amazon.read(tmp_path)) == PLAIN


NEITHER = "it is neither JSON nor a Python literal"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"asin": ', NEITHER),
        (b"__import__('os').system('true')", NEITHER),
        (b"{'asin': open('/etc/passwd')}", NEITHER),
        (b"{'asin': nan()}", NEITHER),
        (b"{'asin': 'B0'}; import os", NEITHER),
        (b"(" * 100_000, NEITHER),
        (b'{"a":' * 100_000, NEITHER),
        (b"{'a': " + b"9" * 5000 + b" + 1j}", NEITHER),
        (b"\\", NEITHER),
        (b"\0", NEITHER),
        ("{'asin': 'für'}".encode("latin-1"), "it is not UTF-8 text"),
        (b'"' + b"x" * (2 << 20) + b'"', "it is longer than 2 MB"),
        *((line, "it is no object") for line in (b"[1]", b"[]", b"'text'", b"3", b"null")),
        (b"{}", "it has no id of a user"),
    ],
)
def test_a_line_that_is_no_record_is_left_out(tmp_path: Path, line: bytes, reason: str) -> None:
    dataset = amazon.read(pair(tmp_path, lines(grid()[:20]) + line + b"\n" + lines(grid()[20:])))
    assert histories(dataset) == PLAIN
    assert left_out(dataset) == {reason: (1, f"{REVIEWS}, line 21")}
    assert dataset.report.to_json()["read"]["reviews"] == 26


def test_a_line_of_a_thousand_blocks_is_one_record_that_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "BLOCK", 100)
    monkeypatch.setattr(records, "MAX_RECORD", 1000)
    dataset = amazon.read(
        pair(tmp_path, lines(grid()) + b"\0" * 100_000 + b"\n" + lines([review("U0", "B0", 9)]))
    )
    assert histories(dataset) == PLAIN
    assert left_out(dataset) == {"it is longer than 0 MB": (1, f"{REVIEWS}, line 26")}
    assert list(changed(dataset).values()) == [(1, f"{REVIEWS}, line 27")]


@pytest.mark.parametrize(
    ("reviews", "sentence"),
    [
        (gzip.compress(lines(grid()), mtime=0)[:-40], "cannot be read to its end"),
        (gzip.compress(lines(grid()), mtime=0) + b"<html>", "cannot be read to its end"),
        (
            gzip.compress(gzip.compress(lines(grid()), mtime=0), mtime=0),
            "is packed with gzip twice: unpack it once",
        ),
        (b"PK\x03\x04", "is a zip archive: unpack it"),
        ("\ufeff{}".encode("utf-16-le"), "is UTF-16 text: save it as UTF-8"),
        (b" <!DOCTYPE html><html>", "is a web page and holds no records: fetch it again"),
        (b'[{"a": 1}, {"a": ', "record 2 of its array is damaged or cut off: fetch it again"),
        (b'[{"a": 1}, {"a" 1}]', "record 2 of its array is damaged or cut off: fetch it again"),
        (b"[", "record 1 of its array is damaged or cut off: fetch it again"),
        (b'[{"a": 1}]\n[{"a": 1}]', "goes on after the end of its array: write one record a line"),
        ('[{"a": "für"}]'.encode("latin-1"), "is not UTF-8 text"),
        (b"{}\n" * 25, "25 of 25 reviews would be left out, most because it has no id of a user"),
        (lines(grid()).replace(b"It's", b"\xfc"), "25 of 25 reviews .* because it is not UTF-8 text"),
    ],
)
def test_a_file_that_is_odd_as_a_whole_is_one_sentence(tmp_path: Path, reviews: bytes, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        amazon.read(pair(tmp_path, reviews))


@pytest.mark.parametrize("inside", [b"\0" * 300_000, b"\n" * 300_000, b"[{}," + b" " * 300_000])
def test_a_packed_file_that_unpacks_to_far_more_than_texts_do_is_refused(
    tmp_path: Path, inside: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packed, "UNPACKED_WITHOUT_DOUBT", 250_000)
    monkeypatch.setattr(blocks, "BLOCK", 10_000)
    with pytest.raises(DataError, match="unpacks to more than 200 times its size"):
        amazon.read(pair(tmp_path, gzip.compress(inside, 9)))


def test_a_file_with_nearly_no_record_is_not_read_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "TRIED", 20)
    with pytest.raises(DataError, match=r"20 of its first 20 reviews cannot be used .*line 20: it has no id"):
        amazon.read(pair(tmp_path, b"{}\n" * 1000 + b"\xff" * 1000))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        *(
            ({"reviewerID": value}, "it has no id of a user")
            for value in (None, "", True, [], {}, 1.5, math.nan)
        ),
        *(({"asin": value}, "it has no id of an item") for value in (None, "", False, 10**300)),
        *(
            ({"unixReviewTime": value}, "it has no time between 1970 and 2100")
            for value in (None, -1, True, "soon", 9_999_999_999, math.inf)
        ),
    ],
)
def test_a_review_without_user_item_or_time_is_left_out(
    tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    dataset = amazon.read(write(tmp_path, [*grid_with(**changes), review("U0", "B0", 0)], products()))
    assert histories(dataset) == PLAIN
    assert left_out(dataset) == {reason: (1, "reviews_Beauty_5.json.gz, line 1")}


def test_ids_that_are_numbers_are_their_digits_in_both_files(tmp_path: Path) -> None:
    reviews: list[dict[str, Any]] = [
        {"reviewerID": u, "asin": i, "unixReviewTime": i} for u in range(5) for i in range(5)
    ]
    reviews[0].update(reviewerID="0", asin="0")
    reviews[1].update(asin=1.0)
    meta = [{"asin": i if i % 2 else str(i), "title": f"T{i}"} for i in range(5)]
    dataset = amazon.read(pair(tmp_path, lines([*map(json.dumps, reviews)]), lines([*map(json.dumps, meta)])))
    assert histories(dataset) == {str(u): ["0", "1", "2", "3", "4"] for u in range(5)}
    assert [item.title for item in dataset.items] == ["T0", "T1", "T2", "T3", "T4"]


@pytest.mark.parametrize("public_id", ["x" * 257, "tab\t", "\ud800", ".."])
def test_an_item_or_user_that_no_path_can_name_is_left_out_with_its_place(
    tmp_path: Path, public_id: str
) -> None:
    odd = [review(f"U{u}", public_id, 9) for u in range(5)] + [
        review(public_id, f"B{i}", 9) for i in range(5)
    ]
    dataset = amazon.read(pair(tmp_path, lines(grid() + odd)))
    assert histories(dataset) == PLAIN
    places = {line["kind"]: line["first"] for line in dataset.report.to_json()["left_out"]}
    assert (places["items"], places["users"]) == (f"{REVIEWS}, line 26", f"{REVIEWS}, line 31")


@pytest.mark.parametrize("time", [float(DAY), str(DAY), f"{DAY}.0", "01 2, 1970", "1970-01-02T00:00:00Z"])
def test_a_time_in_another_notation_has_its_place_in_the_history(tmp_path: Path, time: object) -> None:
    reviews = [
        json.dumps({**json.loads(row), "unixReviewTime": time}) if '"B1"' in row else row for row in grid()
    ]
    assert histories(amazon.read(write(tmp_path, reviews[::-1], products()))) == PLAIN


def test_milliseconds_among_seconds_are_counted_and_converted(tmp_path: Path) -> None:
    def at(row: dict[str, Any]) -> int:
        seconds = 1_400_000_000 + int(row["unixReviewTime"])
        return seconds * 1000 if row["asin"] == "B1" else seconds

    reviews = [json.dumps({**row, "unixReviewTime": at(row)}) for row in map(json.loads, grid())]
    dataset = amazon.read(write(tmp_path, reviews, products()))
    assert histories(dataset) == PLAIN
    assert changed(dataset) == {
        "their time is in milliseconds among seconds": (5, "reviews_Beauty_5.json.gz, line 2")
    }


@pytest.mark.parametrize("number", [None, -1])
def test_the_date_of_a_review_is_read_where_its_number_is_of_no_use(
    tmp_path: Path, number: int | None
) -> None:
    reviews = [
        json.dumps({**row, "unixReviewTime": number, "reviewTime": f"05 {int(row['asin'][1:]) + 1}, 2014"})
        for row in map(json.loads, grid())
    ]
    assert histories(amazon.read(write(tmp_path, reviews[::-1], products()))) == PLAIN


def test_too_many_odd_reviews_are_refused(tmp_path: Path) -> None:
    folder = pair(tmp_path, lines(grid()) + b"{}\n" * 7)
    with pytest.raises(DataError, match=rf"7 of 32 reviews .*first: {REVIEWS}, line 26\).*--max-left-out"):
        registry.read(folder)
    assert histories(registry.read(folder, max_left_out=0.25)) == PLAIN


def test_a_file_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read to its end"):
        list(Records(tmp_path / "nowhere", "reviews", ReadingReport()))


@settings(max_examples=30)
@given(
    noise=st.binary(max_size=200),
    at=st.integers(0, 1500),
    whole=st.booleans(),
    meta=st.booleans(),
    packed=st.booleans(),
)
def test_any_bytes_are_read_left_out_or_one_sentence(
    tmp_path_factory: pytest.TempPathFactory, noise: bytes, at: int, whole: bool, meta: bool, packed: bool
) -> None:
    good = lines(products() if meta else grid())
    odd = noise if whole else good[:at] + noise + good[at:]
    odd = gzip.compress(odd, 1) if packed else odd
    folder = tmp_path_factory.mktemp("noise")
    pair(folder, lines(grid()) if meta else odd, odd if meta else None)
    refused = ""
    logging.disable()
    try:
        registry.read(folder)
    except DataError as error:
        refused = str(error)
    finally:
        logging.disable(logging.NOTSET)
    assert "\n" not in refused
