"""The contract of caption readers: training, serving and captioning find the same captions in any file."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from models.bundle.catalogue import read_catalogue, write_catalogue
from models.contracts import CATALOGUE, BundleError, Item
from models.contracts.captions import Caption, CaptionFile, caption_path, read_captions
from models.data.dataset import Dataset
from service.catalogue.bundle import open_catalogue

CAPTIONER = "sim"
ITEMS = ("A", "B", "Ü")

Captions = dict[str, str]
"""Item id -> caption."""


def dataset() -> Dataset:
    histories = tuple(np.array(rows, dtype=np.int32) for rows in ([0, 1, 2], [2, 1, 0]))
    items = tuple(Item(item_id, title="A thing") for item_id in ITEMS)
    return Dataset(name="three", items=items, users=("u1", "u2"), histories=histories)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle")
    write_catalogue(dataset(), folder)
    caption_path(folder / CATALOGUE, CAPTIONER).parent.mkdir()
    return folder


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Silences warnings about torn lines."""
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


def file_of(bundle: Path) -> Path:
    return caption_path(bundle / CATALOGUE, CAPTIONER)


def trained_on(bundle: Path) -> Captions:
    data = read_catalogue(bundle)
    return {data.items[row].item_id: text for row, text in data.captions[CAPTIONER].items()}


def served(bundle: Path) -> Captions:
    catalogue = open_catalogue(bundle / CATALOGUE)
    return {catalogue.items[row].item_id: text for row, text in catalogue.captions[CAPTIONER].items()}


def estimated(bundle: Path) -> Captions:
    """The captions that a dry run finds, which does not change the file."""
    return of_the_catalogue(read_captions(file_of(bundle)))


def paid_for(bundle: Path) -> Captions:
    """The captions of items that captioning does not pay for again."""
    with CaptionFile(file_of(bundle)) as file:
        return of_the_catalogue(file.latest)


def kept(bundle: Path) -> Captions:
    """The captions that are left when the catalogue is written again."""
    write_catalogue(dataset(), bundle)
    return trained_on(bundle)


def of_the_catalogue(captions: dict[str, Caption]) -> Captions:
    return {item_id: each.caption for item_id, each in captions.items() if item_id in ITEMS}


CONSUMERS: tuple[Callable[[Path], Captions], ...] = (trained_on, served, estimated, paid_for, kept)


def found(bundle: Path, content: bytes) -> list[Captions | None]:
    """The captions that each consumer finds in a file with these bytes; None where it calls it damaged."""
    answers: list[Captions | None] = []
    for consumer in CONSUMERS:
        file_of(bundle).parent.mkdir(exist_ok=True)  # the writer removes an empty file and folder
        file_of(bundle).write_bytes(content)
        try:
            answers.append(consumer(bundle))
        except BundleError:
            answers.append(None)
    return answers


def line(item_id: str = "A", caption: object = "A mug.", **more: object) -> bytes:
    record = {"item_id": item_id, "provider": "p", "model": "m", "prompt_version": "1", "caption": caption}
    return json.dumps({**record, **more}, ensure_ascii=False).encode() + b"\n"


MUG = {"A": "A mug."}
LONG = "mug " * 2**12

CASES: dict[str, tuple[bytes, Captions | None]] = {
    "one line": (line(), MUG),
    "an empty file": (b"", {}),
    "a newline alone": (b"\n", {}),
    "blank lines": (b"\n \t\r\n" + line() + b"\n\n", MUG),
    "blanks at the end": (line() + b"  ", MUG),
    "windows' ends of lines": (line().replace(b"\n", b"\r\n") * 2, MUG),
    "windows' last line without newline": (line()[:-1] + b"\r", MUG),
    "a carriage return within a line": (line().replace(b", ", b",\r"), MUG),
    "a byte order mark": (b"\xef\xbb\xbf" + line(), MUG),
    "utf-16": (line().decode().encode("utf-16-le"), None),
    "a torn line": (line() + line("B")[:-20], MUG),
    "a torn line alone": (line()[:5], {}),
    "a whole last line without newline": (line() + line("B", "A lamp.")[:-1], MUG | {"B": "A lamp."}),
    "a line torn within a character": (line() + line("Ü")[: line("Ü").index(b"\xc3") + 1], MUG),
    "a torn line, ended by another writer": (line() + line("B")[:-20] + b"\n", None),
    "a torn line within others": (line() + line("B")[:-20] + line(), None),
    "not JSON in the middle": (line() + b"mug\n" + line("B"), None),
    "not JSON at the end": (line() + b"mug", MUG),
    "JSON that is no caption at the end": (line() + b"[]", MUG),
    "NUL bytes after a power failure": (line() + b"\0" * 4096, MUG),
    "NUL bytes, and a line after them": (line() + b"\0" * 64 + line("B"), None),
    "a NUL within a caption": (line(caption="A \0mug."), {"A": "A \0mug."}),
    "the last line of an item counts": (line(caption="old") + line("B") + line(), MUG | {"B": "A mug."}),
    "a blank caption": (line() + line("B", "") + line("Ü", " \n"), MUG),
    "a blank caption after another": (line() + line(caption=""), {}),
    "an unknown item": (line("Z") + line() + line(""), MUG),
    "a source that is null, or a number": (line(provider=None, model=4, prompt_version=3), MUG),
    "a lone surrogate": (line(caption="X").replace(b"X", rb"a \ud83d mug"), {"A": "a ? mug"}),
    "a pair of surrogates": (line(caption="X").replace(b"X", rb"\ud83d\ude00"), {"A": "\U0001f600"}),
    "a surrogate in UTF-8": (line(caption="X").replace(b"X", b"\xed\xa0\xbd"), None),
    "a long caption": (line(caption=LONG), {"A": LONG}),
    "a caption that is too long": (line(caption=LONG + "!"), None),
    "a few lines that are no captions": (line() * 50 + b"mug\n" * 5 + line("B", caption=3), MUG),
    "a line that is too long": (line() * 4 + b" " * 2**20 + b"x\n", MUG),
    "a huge number": (line(extra=0).replace(b": 0", b": " + b"9" * 10_000), None),
    "deep nesting": (line(extra=0).replace(b": 0", b": " + b"[" * 10**5 + b"]" * 10**5), None),
    "another field": (line(price=3), MUG),
    "fields that are not there": (b'{"item_id": "A", "caption": "A mug."}\n', MUG),
    "no caption": (b'{"item_id": "A"}\n', None),
    "a caption that is no text": (line(caption=3), None),
    "an item that is no text": (line().replace(b'"A"', b"[]"), None),
    "an unknown item that is no text": (line().replace(b'"A"', b"7"), None),
    "not an object": (b"[]\n", None),
}


@pytest.mark.parametrize("case", CASES)
def test_all_find_the_same_captions(bundle: Path, case: str) -> None:
    content, expected = CASES[case]
    assert found(bundle, content) == [expected] * len(CONSUMERS)


PIECES = [
    line(),
    line("B", "old"),
    line("B", "new"),
    line("Ü", "Ein Krug für „Ü“ \U0001f600"),
    line("Z"),
    line(caption=""),
    b"\n",
    b"\r\n",
    b"\0",
    b"\xef\xbb\xbf",
    b" ",
    b"[]\n",
    b'{"item_id": "A", "caption": "short"}',
]
FILES = st.one_of(
    st.binary(max_size=100),
    st.lists(st.sampled_from(PIECES), max_size=6).map(b"".join),
    st.tuples(
        st.lists(st.sampled_from(PIECES), max_size=4).map(b"".join),
        st.sampled_from(PIECES),
        st.integers(0, 200),
    ).map(lambda torn: torn[0] + torn[1][: torn[2]]),
)
"""Any bytes, files of whole pieces, and files whose last piece is torn."""


@given(content=FILES)
@example(content=line()[:-1])
def test_any_bytes_are_the_same_to_all(bundle: Path, content: bytes) -> None:
    first, *others = found(bundle, content)
    assert others == [first] * len(others)


@given(content=FILES)
def test_what_the_writer_appends_leaves_what_was_there_and_is_found_by_all(
    bundle: Path, content: bytes
) -> None:
    before = found(bundle, content)[0]
    file_of(bundle).write_bytes(content)
    if before is None:
        with pytest.raises(BundleError):
            CaptionFile(file_of(bundle))
        assert file_of(bundle).read_bytes() == content
        return
    with CaptionFile(file_of(bundle)) as file:
        file.append(Caption("A", "p", "m", "1", "appended"))
    assert found(bundle, file_of(bundle).read_bytes()) == [before | {"A": "appended"}] * len(CONSUMERS)
