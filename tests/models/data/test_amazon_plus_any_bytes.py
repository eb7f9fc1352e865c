from __future__ import annotations

import json
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.data import registry
from models.errors import DataError

ITEMS = range(1, 7)
HISTORIES = [["1", "2", "3"], ["4", "5"], ["6", "1", "2"]]
GOOD = {
    "datamaps.json": json.dumps(
        {"id2user": {str(u): f"u{u}" for u in range(1, 4)}, "id2item": {str(i): f"P{i}" for i in ITEMS}}
    ).encode(),
    "item2side.json": json.dumps(
        {
            str(i): {"asin": f"P{i}", "title": "T", "image": {"image_description": {"m": "A tin."}}}
            for i in ITEMS
        }
    ).encode(),
    "sequential.txt": b"".join(f"{u} {' '.join(h)}\n".encode() for u, h in enumerate(HISTORIES, 1)),
    "purchase_history.pkl": pickle.dumps(HISTORIES),
    "negative_samples.txt": b"u1 P5 P6\nu2 P1\n",
}


@st.composite
def damaged(draw: st.DrawFn, good: bytes) -> bytes:
    """The bytes of a good file with one piece of it replaced by others."""
    start = draw(st.integers(0, len(good)))
    end = draw(st.integers(start, len(good)))
    return good[:start] + draw(st.binary(max_size=20)) + good[end:]


@st.composite
def folders(draw: st.DrawFn) -> dict[str, bytes]:
    """The files of a data set, one of them damaged, with sequential.txt or without it."""
    name = draw(st.sampled_from(sorted(GOOD)))
    files = {**GOOD, name: draw(damaged(GOOD[name]) | st.binary(max_size=60))}
    if draw(st.booleans()):
        del files["sequential.txt"]
    return files


@settings(max_examples=30, deadline=None)
@given(files=folders())
def test_any_bytes_in_one_file_are_read_or_a_data_error(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes]
) -> None:
    folder = tmp_path_factory.mktemp("plus")
    for name, content in files.items():
        (folder / name).write_bytes(content)
    try:
        dataset = registry.read(folder)
    except DataError:
        return
    assert dataset.interactions
    assert {row for history in dataset.histories for row in history} <= set(range(len(dataset.items)))
    for user, rows in (dataset.negatives or {}).items():
        assert user < len(dataset.users)
        assert all(0 <= row < len(dataset.items) for row in rows)
