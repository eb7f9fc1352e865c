"""The contract of bundle readers: training and serving refuse the same catalogues, each in one sentence."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundles import write_bundle, write_graph_backbone
from hypothesis import given, settings
from hypothesis import strategies as st

from models.bundle.catalogue import read_catalogue
from models.contracts import BundleError, sha256_of
from models.contracts.manifests import CatalogueManifest
from service.candidates.registry import open_backbone
from service.catalogue.bundle import open_bundle

ITEMS, USERS = 8, 3

Change = Callable[[Path], object]
"""Change to the folder of a catalogue."""


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with one backbone of each kind."""
    folder = write_bundle(
        tmp_path_factory.mktemp("readers") / "bundle", items=ITEMS, users=USERS, enhanced=False
    )
    version = json.loads((folder / "catalogue" / "manifest.json").read_text())["version"]
    write_graph_backbone(folder, "graph", version, items=ITEMS, users=USERS)
    return folder


@pytest.fixture
def bundle(good: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(good, tmp_path / "bundle"))


def opened(bundle: Path) -> list[str]:
    """What training and serving say to a bundle; empty where it opens."""
    said = []
    for read in (read_catalogue, served):
        try:
            read(bundle)
        except BundleError as error:
            said.append(str(error))
        else:
            said.append("")
    return said


def served(bundle: Path) -> None:
    for backbone in open_bundle(bundle).backbones.values():
        open_backbone(backbone).top(None, [0], 3, [])


def rehash(bundle: Path) -> None:
    """Makes every hash and version fit the files, as one would who means ill."""
    version = ""
    for folder in (bundle / "catalogue", *sorted((bundle / "backbones").iterdir())):
        path = folder / "manifest.json"
        record = json.loads(path.read_text())
        hashes = {name: sha256_of(folder / name) for name in record["sha256"] if (folder / name).is_file()}
        record["sha256"] |= hashes
        if version:
            record["catalogue_version"] = version
        else:
            version = CatalogueManifest("", 1, 1, 1, record["sha256"]).version
        path.write_text(json.dumps(record))


def manifest(**changes: Any) -> Change:
    """Another value of a field of the manifest; None takes the field out."""

    def change(folder: Path) -> None:
        path = folder / "manifest.json"
        record = {**json.loads(path.read_text()), **changes}
        path.write_text(json.dumps({name: value for name, value in record.items() if value is not None}))

    return change


def text(content: str | bytes) -> Change:
    """Another manifest."""
    encoded = content.encode() if isinstance(content, str) else content
    return lambda folder: (folder / "manifest.json").write_bytes(encoded)


def item(**changes: Any) -> Change:
    """Another value of a field of the third item."""

    def change(folder: Path) -> None:
        path = folder / "items.jsonl"
        lines = path.read_text().splitlines()
        lines[2] = json.dumps({**json.loads(lines[2]), **changes})
        path.write_text("".join(f"{line}\n" for line in lines))

    return change


def third_line(content: bytes) -> Change:
    def change(folder: Path) -> None:
        path = folder / "items.jsonl"
        lines = path.read_bytes().splitlines()
        path.write_bytes(b"".join(line + b"\n" for line in [*lines[:2], content, *lines[3:]]))

    return change


def histories(pack: Callable[..., None] = np.savez, **changes: Any) -> Change:
    def change(folder: Path) -> None:
        path = folder / "histories.npz"
        arrays = {**np.load(path), **changes}
        pack(path, **{name: array for name, array in arrays.items() if array is not None})

    return change


def zipped(method: int = zipfile.ZIP_DEFLATED, members: tuple[str, ...] = (), size: int = 10) -> Change:
    """A zip file with members of zeros in the place of the histories."""

    def change(folder: Path) -> None:
        with zipfile.ZipFile(folder / "histories.npz", "w", method) as archive:
            for name in members or ("user_ids.npy", "offsets.npy", "item_rows.npy"):
                archive.writestr(name, bytes(size))

    return change


def popularity(array: Any) -> Change:
    return lambda folder: np.save(folder / "popularity.npy", array)


def marked_as_encrypted(folder: Path) -> None:
    content = bytearray((folder / "histories.npz").read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1  # the first bit of the flags, eight bytes into an entry
    (folder / "histories.npz").write_bytes(content)


def patched(name: str, *changes: tuple[bytes, bytes]) -> Change:
    def change(folder: Path) -> None:
        content = (folder / name).read_bytes()
        for old, new in changes:
            assert old in content
            content = content.replace(old, new)
        (folder / name).write_bytes(content)

    return change


def in_place(name: str, make: Callable[[Path], object]) -> Change:
    """Something else in the place of a file."""

    def change(folder: Path) -> None:
        (folder / name).unlink()
        make(folder / name)

    return change


def both(first: Change, second: Change) -> Change:
    return lambda folder: (first(folder), second(folder))


def ids(*user_ids: str) -> Any:
    return np.frombuffer("".join(f"{each}\n" for each in user_ids).encode("utf-8", "surrogatepass"), np.uint8)


DEEP = "[" * 100_000
CASES: dict[str, tuple[Change, str]] = {
    "manifest: not UTF-8": (text(b'{"dataset": "\xff"}'), "not UTF-8"),
    "manifest: UTF-16": (text("{}".encode("utf-16")), "not UTF-8"),
    "manifest: deep": (text('{"x": ' + DEEP), "nested too deeply"),
    "manifest: too deep": (manifest(reading={"x": json.loads("[" * 40 + "]" * 40)}), "nested too deeply"),
    "manifest: twice": (text('{"items": 1, "items": 2}'), "'items' twice"),
    "manifest: the last of many twice": (
        text("{" + ",".join(f'"{each}":0' for each in (*range(50_000), "x", "x")) + "}"), "'x' twice"
    ),
    "manifest: NaN": (text('{"items": NaN}'), "NaN is no number"),
    "manifest: endless": (text('{"items": 1e999}'), "too large"),
    "manifest: a huge integer": (text('{"items": ' + "9" * 10_000 + "}"), "too large"),
    "manifest: half a pair": (manifest(reading={"\ud800": 1}), "surrogate"),
    "manifest: a control character": (manifest(dataset="a\nb"), "dataset must be"),
    "manifest: large": (lambda folder: os.truncate(folder / "manifest.json", 2**30), "bytes, more than"),
    "manifest: folder": (in_place("manifest.json", Path.mkdir), "is a folder"),
    "manifest: pipe": (in_place("manifest.json", os.mkfifo), "not a regular file"),
    "manifest: device": (in_place("manifest.json", lambda path: path.symlink_to("/dev/zero")), "regular"),
    "manifest: loop": (in_place("manifest.json", lambda path: path.symlink_to(path.name)), "opened"),
    **{
        f"manifest: {name} {value!r:.12}": (manifest(**{name: value}), rf"{name} must be|lacks {name}")
        for name in ("items", "users", "interactions")
        for value in (-1, True, "8", 8.0, 2**62, None, [])
    },
    "manifest: no items": (manifest(items=0), "items must be"),
    "manifest: text of no characters": (manifest(dataset=""), "dataset must be"),
    "manifest: more items": (manifest(items=ITEMS + 1), r"items\.jsonl holds 8 items"),
    "manifest: fewer items": (manifest(items=ITEMS - 1), r"items\.jsonl holds 8 items"),
    "manifest: more users": (manifest(users=USERS + 1), r"histories\.npz"),
    "manifest: a billion users": (manifest(users=10**9), r"histories\.npz"),
    "manifest: fewer interactions": (manifest(interactions=1), r"histories\.npz"),
    "manifest: a hash that is no hash": (manifest(sha256={"items.jsonl": "x" * 64}), "sha256 must be"),
    "manifest: a file elsewhere": (manifest(sha256={"../items.jsonl": "0" * 64}), "sha256 must be"),
    "manifest: no hashes": (manifest(sha256={}), r"no hash for items\.jsonl"),
    "items: an integer": (third_line(b"3"), "line 3: it is not a JSON object"),
    "items: blank": (third_line(b""), "line 3: it is blank"),
    "items: not UTF-8": (third_line(b'{"item_id": "\xe9"}'), "line 3: it is not UTF-8"),
    "items: deep": (third_line(DEEP.encode()), "line 3: it is nested too deeply"),
    "items: long": (third_line(b" " * 2**18 + b"{}"), "line 3: it has more than"),
    "items: not ended": (third_line(b'{"item_id"'), "line 3: it is not JSON"),
    "items: twice": (item(item_id="I001"), "line 3: the item id 'I001' was there before"),
    "items: another file": (in_place("items.jsonl", os.mkfifo), "not a regular file"),
    **{
        f"items: {name} {value!r:.20}": (item(**{name: value}), r"line 3: .*(item|image|categories)")
        for name, values in {
            "item_id": (None, 7, "", "..", "a\nb", "\ud800", "x" * 257),
            "title": (0, [], False, {}, "\ud800"),
            "keywords": (1.5, "\udfff"),
            "categories": ("Home", None, {"a": 1}, [None], [3], ["\ud800"]),
            "image": (0, "../x", "a/b", "a\\b", "..", ".", "/etc/x", "a\0", "a\n", "é" * 128, "\ud800"),
            "image_sha256": ("", "0" * 63, "A" * 64, "0" * 64 + "\n", 3),
        }.items()
        for value in values
    },
    "histories: junk": (lambda folder: (folder / "histories.npz").write_bytes(b"PK junk"), "not a zip file"),
    "histories: a pickle": (histories(user_ids=np.array([{}] * 3, dtype=object)), "'|O'"),
    "histories: one more": (histories(more=np.zeros(1)), "nothing else"),
    "histories: one less": (histories(offsets=None), "nothing else"),
    "histories: one twice": (
        zipped(members=("offsets.npy", "offsets", "user_ids", "item_rows")), "nothing else"
    ),
    "histories: compressed otherwise": (zipped(zipfile.ZIP_LZMA), "compressed in a way"),
    "histories: a bomb": (zipped(size=10**5), "more than the 7,171"),
    "histories: a bomb that the manifest allows": (
        both(manifest(users=10**7, interactions=10**7), zipped(size=5 * 10**6)), "far larger than it is"
    ),
    "histories: encrypted": (
        marked_as_encrypted,
        "encrypted",
    ),
    "histories: fewer ids": (histories(user_ids=ids("a", "b")), "holds 2 user ids"),
    "histories: an id that does not end": (histories(user_ids=ids("a", "b", "c")[:-1]), "user ids"),
    "histories: an id twice": (histories(user_ids=ids("a", "b", "a")), "a user id is there twice"),
    "histories: an empty id": (histories(user_ids=ids("a", "", "c")), "the user id '' is empty"),
    "histories: half a pair": (histories(user_ids=ids("a", "\ud800", "c")), "can't decode"),
    "histories: a long id": (histories(user_ids=ids("a", "x" * 257, "c")), "has 257 characters"),
    "histories: wide ids": (histories(user_ids=np.array(["a", "b", "c"], dtype="<U257")), "up to 257"),
    "histories: half a pair of before": (histories(user_ids=np.array(["a", "\ud800", "c"])), "decode"),
    "histories: ids without width": (
        histories(user_ids=np.array(["", "", ""], dtype="<U0")), "(is empty|user id)"
    ),
    "histories: offsets go back": (histories(offsets=np.array([0, 7, 3, 12])), "go backwards"),
    "histories: negative offsets": (histories(offsets=np.array([0, -1, 3, 12])), "go backwards"),
    "histories: offsets from 1": (histories(offsets=np.array([1, 3, 7, 12])), "begin with 0"),
    "histories: offsets beyond": (histories(offsets=np.array([0, 3, 7, 13])), "end with 12"),
    "histories: other offsets": (histories(offsets=np.array([0, 3, 7, 12], dtype=np.int32)), "int64"),
    "histories: two axes": (histories(offsets=np.array([[0, 3, 7, 12]])), r"int64 \(1, 4\)"),
    "histories: a row beyond": (histories(item_rows=np.full(12, ITEMS, dtype=np.int32)), "outside 0–7"),
    "histories: a negative row": (histories(item_rows=np.full(12, -1, dtype=np.int32)), "outside 0–7"),
    "histories: rows that are none": (histories(item_rows=np.zeros(12)), "'<f8'"),
    "popularity: too few": (popularity(np.zeros(3, dtype=np.int64)), r"expected int64 \(8,\)"),
    "popularity: negative": (popularity(np.full(ITEMS, -1)), "a count is negative"),
    "popularity: fractions": (popularity(np.full(ITEMS, np.nan)), "'<f8'"),
    "popularity: a pickle": (popularity(np.array([{}] * ITEMS)), "'|O'"),
    "popularity: longer than promised": (
        lambda folder: os.truncate(folder / "popularity.npy", 200), "its header promises"
    ),
    "popularity: of a trillion": (
        patched("popularity.npy", (b"(8,), }" + b" " * 12, b"(8000000000000,), }")), r"expected int64 \(8,\)"
    ),
    "popularity: a header that is code": (patched("popularity.npy", (b"'<i8'", b"[]*99")), "is damaged"),
    "popularity: a header that Python warns of": (patched("popularity.npy", (b"False", b"1if 1")), "damaged"),
    "popularity: version 9": (patched("popularity.npy", (b"NUMPY\1", b"NUMPY\x09")), "version 9"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_training_and_serving_refuse_what_is_wrong_with_the_same_sentence(
    bundle: Path, case: str, recwarn: pytest.WarningsRecorder
) -> None:
    change, sentence = CASES[case]
    change(bundle / "catalogue")
    if not case.startswith("manifest"):
        rehash(bundle)
    with pytest.raises(BundleError, match=sentence) as refused:
        read_catalogue(bundle)
    assert opened(bundle) == [str(refused.value)] * 2
    assert "again" in str(refused.value)
    assert len(str(refused.value)) < 600
    assert not recwarn.list


HARMLESS: dict[str, Change] = {
    "nothing": lambda folder: None,
    "ends of lines of Windows": patched("items.jsonl", (b"\n", b"\r\n")),
    "unknown fields": item(price=[3], more={"x": None}),
    "no title": item(title=None, keywords=None, categories=[]),
    "a title with control characters": item(title="a\0\u2028b"),
    "a reading that is none": manifest(reading=[1]),
    "a reading of other forms": manifest(
        reading={"read": {"items": True}, "left_out": [{"kind": 3}, 4, {"kind": "x"}], "changed": {"a": "b"}}
    ),
    "compressed histories": histories(pack=np.savez_compressed),
    "ids of one width": histories(user_ids=np.array(["u0", "ü\u2028", "u2"])),
    "ids one a line": histories(user_ids=ids("u0", "ü\u2028", "u2")),
}


@pytest.mark.parametrize("case", HARMLESS)
def test_what_is_only_in_another_form_is_opened(bundle: Path, case: str) -> None:
    HARMLESS[case](bundle / "catalogue")
    rehash(bundle)
    assert opened(bundle) == ["", ""]


def test_no_more_is_inflated_than_a_zip_file_promises(bundle: Path) -> None:
    change, size = zipped(size=2**22), (2**22).to_bytes(4, "little")
    both(change, patched("histories.npz", (size, (10).to_bytes(4, "little"))))(bundle / "catalogue")
    rehash(bundle)
    tracemalloc.start()
    try:
        with pytest.raises(BundleError, match="Bad CRC"):
            read_catalogue(bundle)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_a_backbone_folder_that_would_move_the_cursor_is_named_in_safe_letters(bundle: Path) -> None:
    (bundle / "backbones" / "graph").rename(bundle / "backbones" / "a\x1b[2J\n")
    with pytest.raises(BundleError, match=r"backbones holds 'a\\x1b\[2J\\n'") as refused:
        open_bundle(bundle)
    assert str(refused.value).isprintable()


def test_user_ids_of_both_forms_are_the_same(bundle: Path) -> None:
    users = ("a", "Ü", "x" * 256)
    for form in (np.array(users), ids(*users)):
        histories(user_ids=form)(bundle / "catalogue")
        rehash(bundle)
        assert read_catalogue(bundle).users == users
        assert open_bundle(bundle).catalogue.histories.user_ids == users


FILES = tuple(
    Path(name)
    for name in (
        "catalogue/manifest.json",
        "catalogue/items.jsonl",
        "catalogue/histories.npz",
        "catalogue/popularity.npy",
        "catalogue/captions/simulator.jsonl",
        "backbones/blocks-raw/manifest.json",
        "backbones/blocks-raw/item_vectors.npy",
        "backbones/blocks-raw/encoder.onnx",
        "backbones/graph/user_vectors.npy",
    )
)


def damage(content: bytes, draw: st.DrawFn) -> bytes:
    """Other bytes, or the same ones with a piece that is changed, missing, doubled or filled with zeros."""
    if draw(st.integers(0, 5)) == 0:
        return draw(st.binary(max_size=300))
    begin = draw(st.integers(0, len(content)))
    end = min(len(content), begin + draw(st.integers(0, 40)))
    middle = draw(
        st.sampled_from([b"", content[begin:end] * 2, bytes(end - begin), b"9" * 12, b"-1", b"null", b"{}"])
        | st.binary(min_size=1, max_size=8)
    )
    return content[:begin] + middle + content[end:]


@st.composite
def damages(draw: st.DrawFn, good: Path) -> tuple[Path, bytes, bool]:
    """A file of the bundle, what becomes of it, and whether the hashes fit."""
    file = draw(st.sampled_from(FILES))
    return file, damage((good / file).read_bytes(), draw), draw(st.booleans())


def open_damaged(good: Path, folder: Path, file: Path, content: bytes, fits: bool) -> None:
    """Opens a damaged bundle; any exception but BundleError is the test's."""
    shutil.rmtree(folder, ignore_errors=True)
    # Pictures are not opened here, and are most of the files.
    shutil.copytree(good, folder, ignore=shutil.ignore_patterns("images"))
    (folder / file).write_bytes(content)
    if fits and file.name != "manifest.json":
        rehash(folder)
    opened(folder)


@given(data=st.data())
@settings(max_examples=40)
def test_a_bundle_with_any_damage_is_opened_or_refused(
    good: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    open_damaged(good, tmp_path_factory.getbasetemp() / "damaged", *data.draw(damages(good)))


CHILD = """
import resource, sys, time
from pathlib import Path
import hypothesis, numpy, onnxruntime
sys.path[:0] = sys.argv[3:]
import test_bundle_readers as readers
from hypothesis import strategies as st

@hypothesis.settings(
    max_examples=1500, deadline=None, suppress_health_check=list(hypothesis.HealthCheck), database=None
)
@hypothesis.given(data=st.data())
def run(data):
    good, folder = map(Path, sys.argv[1:3])
    change = data.draw(readers.damages(good))
    began = time.process_time()
    readers.open_damaged(good, folder, *change)
    assert time.process_time() - began < 10, change

before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
run()
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.slow
def test_no_damage_of_many_takes_much_memory_or_time(good: Path, tmp_path: Path) -> None:
    here = Path(__file__).parent
    ended = subprocess.run(
        [sys.executable, "-c", CHILD, good, tmp_path / "damaged", here, here.parent / "fakes"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert int(ended.stdout.split()[-1]) < 300  # MiB
