"""Tests that vectors are copied when they are opened: what becomes of their file changes nothing."""

from __future__ import annotations

import errno
import mmap
import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from models.contracts import BundleError, sha256_of
from service.catalogue.file_copies import PrivateCopies
from service.catalogue.vectors import read_vectors

VECTORS = np.arange(300_000, dtype=np.float32).reshape(-1, 100) / 10  # more than one block


@pytest.fixture
def path(tmp_path: Path) -> Path:
    np.save(tmp_path / "vectors.npy", VECTORS)
    return tmp_path / "vectors.npy"


def read(path: Path, sha256: str | None = None) -> np.ndarray:
    return read_vectors(path, sha256 or sha256_of(path), *VECTORS.shape, PrivateCopies())


def test_a_file_that_is_truncated_and_overwritten_leaves_the_vectors_as_they_were(path: Path) -> None:
    vectors = read(path)
    path.write_bytes(bytes(path.stat().st_size))
    os.truncate(path, 0)
    np.testing.assert_array_equal(vectors, VECTORS)
    assert not vectors.flags.writeable


@pytest.mark.parametrize(
    ("array", "sentence"),
    [
        (VECTORS[1:], r"it is float32 \(2999, 100\), expected float32 \(3000, 100\)"),
        (VECTORS.astype(np.float16), "its elements are '<f2'"),
        (np.asfortranarray(VECTORS), "its columns come first in memory"),
        (VECTORS.astype(np.float64), "has 2,400,128 bytes, more than"),
        (VECTORS[:0], r"is float32 \(0, 100\)"),
    ],
)
def test_other_vectors_are_refused(path: Path, array: np.ndarray, sentence: str) -> None:
    np.save(path, array)
    with pytest.raises(BundleError, match=sentence):
        read(path)


def test_a_file_that_differs_from_the_manifest_is_refused(path: Path) -> None:
    with pytest.raises(BundleError, match=r"vectors\.npy is not the file that was exported"):
        read(path, "0" * 64)


def test_what_is_no_array_is_refused(path: Path, tmp_path: Path) -> None:
    path.write_bytes(b"\x93NUMPY\x01\x00\x08\x00{'a': 1\n")
    with pytest.raises(BundleError, match="its header is damaged"):
        read(path)
    for odd in (tmp_path / "folder", tmp_path / "pipe", tmp_path / "empty"):
        odd.mkdir() if odd.name == "folder" else os.mkfifo(odd) if odd.name == "pipe" else odd.touch()
        with pytest.raises(BundleError, match=odd.name):
            read(odd, "0" * 64)
    (tmp_path / "empty").touch()
    with pytest.raises(BundleError, match="empty: it is not a NumPy file"):
        read(tmp_path / "empty")


def test_no_memory_for_the_vectors_is_no_reason_to_copy_them_again_alone(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left(*_: object, **__: object) -> None:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    monkeypatch.setattr(mmap, "mmap", none_left)
    with pytest.raises(BundleError, match=r"\(Cannot allocate memory\): see to that, or"):
        read(path)


def test_a_file_that_is_too_large_is_refused_before_memory_is_taken_for_it(path: Path) -> None:
    os.truncate(path, 1 << 40)  # a hole
    tracemalloc.start()
    with pytest.raises(BundleError, match="has 1,099,511,627,776 bytes"):
        read(path, "0" * 64)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()
