"""Tests that a search finds what its description says, and that its file is shared, checked and replaced."""

from __future__ import annotations

import gc
import logging
import os
import sqlite3
import threading
import time
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.catalogue import item_search, search_index
from service.catalogue.item_search import ItemSearch
from service.catalogue.search_words import query_words, search_form
from service.errors import InvalidRequestError, UnavailableError

NAMES = (
    "Red Teapot, 2 L",
    "Salt & pepper mill",
    "POT of honey",
    "Café crème (250 g)",
    "C# in a nutshell",
    "Straße №7",
    "赤い茶碗",
    "हिन्दी किताब",
    'A "quoted" NEAR(title) AND NOT* {col}: ^x -y',
    "abcabd",
)


def catalogue_of(names: Sequence[str], version: str = "v") -> Any:
    """What the search reads of a catalogue."""
    return SimpleNamespace(items=[SimpleNamespace(name=name) for name in names], version=version)


def found(search: ItemSearch, query: str, start: int = 0, limit: int = 100) -> list[str]:
    return [NAMES[row] for row in search.find(query_words(query), start, limit)]


@pytest.fixture(scope="module")
def search() -> ItemSearch:
    return ItemSearch(catalogue_of(NAMES))


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("pot", ["Red Teapot, 2 L", "POT of honey"]),
        ("TEAPOT red", ["Red Teapot, 2 L"]),
        ("te", ["Red Teapot, 2 L"]),
        ("p", ["Salt & pepper mill", "POT of honey"]),
        ("salt & pepper", ["Salt & pepper mill"]),
        ("cafe creme", ["Café crème (250 g)"]),
        ("CAFE\u0301", ["Café crème (250 g)"]),
        ("25", ["Café crème (250 g)"]),
        ("c#", ["C# in a nutshell"]),
        ("strasse", ["Straße №7"]),
        ("ｐｏｔ", ["Red Teapot, 2 L", "POT of honey"]),
        ("赤", ["赤い茶碗"]),
        ("茶碗", []),  # two characters match where a word begins
        ("い茶碗", ["赤い茶碗"]),
        ("हि", ["हिन्दी किताब"]),
        ("abcabc", []),  # every trigram of it is in "abcabd", and it is not
        ('"quoted"', [NAMES[8]]),
        ("not* near(title) {col}: ^x -y", [NAMES[8]]),
        ("near(teapot", []),
    ],
)
def test_all_words_must_be_in_the_name(search: ItemSearch, query: str, names: list[str]) -> None:
    assert found(search, query) == names


def test_repeats_and_signs_are_no_words() -> None:
    assert query_words("Red RED red & - ré1 ré1 ☃") == ("red", "re1")


def test_seventeen_different_words_are_refused_with_the_number_allowed() -> None:
    words = [f"w{number}" for number in range(16)]
    assert len(query_words(" ".join(words * 2))) == 16
    with pytest.raises(
        InvalidRequestError, match=r"q has 17 different words and at most 16 .* leave some out"
    ):
        query_words(" ".join([*words, "one-more"]))


def test_rows_come_in_catalogue_order_from_the_start_on_up_to_the_limit(search: ItemSearch) -> None:
    rows = search.find(["a"], 0, 100)
    assert rows == sorted(rows)
    assert search.find(["a"], rows[1], 1) == [rows[1]]
    assert search.find(["a"], rows[-1] + 1, 5) == []


# Letters that meet often, with what is special to SQLite, FTS5 or the search form among them.
ALPHABET = [*"aabbc -'\"*^():&#_9é́ßİⅧがガ\0\1\x1f\x7f", "\ud800", "\ufffe", "\U0001f600", "AND", "ﬁ"]
TEXTS = st.lists(st.sampled_from(ALPHABET), max_size=12).map("".join) | st.text(max_size=12)


def matches(query: str, name: str) -> bool:
    """The description of the search, word by word."""
    form = search_form(name)
    return all(
        word in form
        if len(word) > 2
        else any(
            form.startswith(word, at) and (at == 0 or form[at - 1].isspace() or begins_run(form, at, word))
            for at in range(len(form))
        )
        for word in query_words(query)
    )


def begins_run(form: str, at: int, word: str) -> bool:
    return not in_run(form[at - 1]) and all(map(in_run, word))


def in_run(char: str) -> bool:
    return char.isalnum() or unicodedata.category(char).startswith("M")


@settings(max_examples=60, derandomize=True, database=None)
@given(names=st.lists(TEXTS, min_size=1, max_size=8), queries=st.lists(TEXTS, min_size=1, max_size=8))
def test_any_text_finds_exactly_what_the_description_says(names: list[str], queries: list[str]) -> None:
    search = ItemSearch(catalogue_of(names))
    # Parts of the names themselves, which random texts seldom hit.
    for query in [*queries, *(name[1:5] for name in names), *(name[:2] for name in names)]:
        words = query_words(query)
        if words:
            expected = [row for row, name in enumerate(names) if matches(query, name)]
            assert search.find(words, 0, 100) == expected, (query, names)


def test_without_fts5_every_name_is_read_and_the_log_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, search: ItemSearch, tmp_path: Path
) -> None:
    for module in (search_index, item_search):
        monkeypatch.setattr(module, "has_full_text_search", lambda: False)
    plain = ItemSearch(catalogue_of(NAMES), tmp_path)
    assert "lacks FTS5" in caplog.text
    for query in ("pot", "te", "p", "salt & pepper", "abcabc", "い茶碗", "not* near(title)", "c# in"):
        assert found(plain, query) == found(search, query)
    monkeypatch.undo()
    assert found(ItemSearch(catalogue_of(NAMES), tmp_path), "pot") == found(search, "pot")
    assert len(list(tmp_path.glob("*.sqlite"))) == 1  # with FTS5 back, the file is made again with it


def built(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A list that grows with each index that is built."""
    calls: list[str] = []
    build = search_index._build
    monkeypatch.setattr(search_index, "_build", lambda *parts: (calls.append("built"), build(*parts)))
    return calls


def test_processes_that_open_one_catalogue_build_its_file_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = built(monkeypatch)
    opened: list[ItemSearch] = []
    threads = [
        threading.Thread(target=lambda: opened.append(ItemSearch(catalogue_of(NAMES), tmp_path)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert calls == ["built"]
    assert [found(each, "pot") for each in opened] == [["Red Teapot, 2 L", "POT of honey"]] * 4
    assert {path.suffix for path in tmp_path.iterdir()} == {".sqlite", ""}  # the index and the lock


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [flip, lambda path: path.write_bytes(path.read_bytes()[:5000]), lambda path: path.write_bytes(b"")],
    ids=["a flipped byte", "cut off", "emptied"],
)
def test_a_damaged_file_is_built_again_with_one_line_in_the_log(
    damage: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ItemSearch(catalogue_of(NAMES), tmp_path)
    (path,) = tmp_path.glob("*.sqlite")
    damage(path)
    assert found(ItemSearch(catalogue_of(NAMES), tmp_path), "teapot") == ["Red Teapot, 2 L"]
    assert [record.message for record in caplog.records] == [
        f"the search index {path} is damaged and is built again"
    ]
    assert len(list(tmp_path.glob("*.sqlite"))) == 1


def test_a_folder_that_cannot_be_written_means_an_index_in_memory_and_one_line_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    search = ItemSearch(catalogue_of(NAMES), tmp_path / "file")
    assert found(search, "teapot") == ["Red Teapot, 2 L"]
    assert ["built in memory" in record.message for record in caplog.records] == [True]


def test_a_disk_that_is_full_means_an_index_in_memory_and_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    build = search_index._build

    def full(connection: sqlite3.Connection, names: Any) -> None:
        if connection.execute("PRAGMA database_list").fetchone()[2]:  # the path of its file
            connection.execute("PRAGMA max_page_count = 2")
        build(connection, names)

    monkeypatch.setattr(search_index, "_build", full)
    assert found(ItemSearch(catalogue_of(NAMES), tmp_path), "teapot") == ["Red Teapot, 2 L"]
    assert "full" in caplog.text
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


def test_a_file_that_breaks_while_it_is_open_is_replaced_in_memory_and_built_again_at_the_next_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    names = [f"teapot number {number}" for number in range(5_000)]
    search = ItemSearch(catalogue_of(names), tmp_path)
    (path,) = tmp_path.glob("*.sqlite")
    path.write_bytes(b"\xff" * path.stat().st_size)
    assert search.find(query_words("number 4999"), 0, 5) == [4999]
    assert search.find(query_words("number 4998"), 0, 5) == [4998]
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    caplog.clear()
    assert ItemSearch(catalogue_of(names), tmp_path).find(query_words("number 4999"), 0, 5) == [4999]
    assert "is damaged and is built again" in caplog.text


def test_only_the_newest_files_stay_and_a_catalogue_that_comes_back_is_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = built(monkeypatch)
    (tmp_path / "left.tmp").touch()
    for number, version in enumerate(["a", "b", "c", "a", "d"]):
        ItemSearch(catalogue_of(NAMES, version), tmp_path)
        for path in tmp_path.glob(f"{version}-*.sqlite"):
            os.utime(path, (number, number))  # the order of the openings, however coarse the system's clock
    assert {path.name[0] for path in tmp_path.glob("*.sqlite")} == {"a", "c", "d"}
    assert len(calls) == 4
    assert not list(tmp_path.glob("*.tmp"))


def test_a_search_under_way_ends_before_its_connections_are_closed(tmp_path: Path) -> None:
    search = ItemSearch(catalogue_of(NAMES), tmp_path)
    connection = search._index._idle.get()
    search._index._idle.put(connection)
    find = search.find  # what a thread of the pool holds
    del search
    assert find(["teapot"], 0, 1) == [0]
    del find
    gc.collect()
    with pytest.raises(sqlite3.ProgrammingError):
        connection.execute("SELECT 1")


def test_a_search_that_takes_too_long_is_stopped_and_the_next_one_has_its_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Every trigram of the word is in every name, and the word in none.
    search = ItemSearch(catalogue_of(["aab aba baa"] * 20_000))
    monkeypatch.setattr(item_search, "MAX_SECONDS", 0.0)
    with pytest.raises(UnavailableError, match="the search was stopped after 0 s"):
        search.find(["aabaab"], 0, 1)
    monkeypatch.undo()
    assert search.find(["baa"], 0, 1) == [0]


def test_searches_wait_for_one_another_where_the_index_is_in_memory(search: ItemSearch) -> None:
    found_by: list[list[int]] = []
    threads = [threading.Thread(target=lambda: found_by.append(search.find(["pot"], 0, 9))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found_by == [[0, 2]] * 8


@pytest.mark.slow
def test_a_page_of_a_hundred_thousand_items_takes_milliseconds(tmp_path: Path) -> None:
    names = [f"A product title of several words, number {i}, for the kitchen" for i in range(100_000)]
    search = ItemSearch(catalogue_of(names), tmp_path)
    begun = time.process_time()
    for query in ("product", "product kitchen number 99999", "k", "f t k p", "zzz"):
        search.find(query_words(query), 0, 21)
    assert time.process_time() - begun < 1
