"""Tests that workers share one copy of a file, that no process can change it, and that it is given back."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from controlled_provider import eventually

from models.contracts import sha256_of
from service.catalogue.file_copies import FileChangedError
from service.catalogue.shared_copies import (
    HELD,
    IS_AVAILABLE,
    NEW,
    BorrowedCopies,
    Loans,
    SharedCopies,
    open_pair,
)

pytestmark = pytest.mark.skipif(not IS_AVAILABLE, reason="this system has no files in memory")

CONTENT = bytes(range(256)) * 10_000


class AWorker:
    """A worker's end of the pair, and what the parent knows of it."""

    def __init__(self, loans: Loans, end: socket.socket) -> None:
        self.loans, self.end = loans, end
        self.copies = BorrowedCopies(end, shared_from=0)

    def copy(self, path: Path, sha256: str) -> memoryview:
        source = os.open(path, os.O_RDONLY)
        try:
            return self.copies.copy(source, sha256)
        finally:
            os.close(source)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "file").write_bytes(CONTENT)
    return tmp_path / "file"


Start = Callable[[SharedCopies], AWorker]


@pytest.fixture
def start() -> Iterator[Start]:
    with ExitStack() as stack:

        def start_worker(parent: SharedCopies) -> AWorker:
            ours, theirs = open_pair()
            return AWorker(parent.lend(ours), stack.enter_context(theirs))

        yield start_worker


def test_a_small_file_is_copied_without_the_parent(path: Path) -> None:
    ours, theirs = open_pair()
    with ours, theirs:
        ours.close()  # no parent would answer
        source = os.open(path, os.O_RDONLY)
        assert bytes(BorrowedCopies(theirs).copy(source, sha256_of(path))) == CONTENT
        assert "memfd:bundle" not in Path("/proc/self/maps").read_text()
        os.close(source)


def test_workers_get_one_copy_that_stays_as_it_is(path: Path, start: Start) -> None:
    parent, sha256 = SharedCopies(), sha256_of(path)
    one, two = start(parent), start(parent)
    copies = [one.copy(path, sha256), two.copy(path, sha256)]
    inodes = {
        line.split()[4] for line in Path("/proc/self/maps").read_text().splitlines() if "memfd:bundle" in line
    }
    assert len(inodes) == 1
    os.truncate(path, 0)
    assert [bytes(copy) for copy in copies] == [CONTENT, CONTENT]
    (descriptor,) = parent._descriptors.values()
    for change in (lambda: os.truncate(descriptor, 0), lambda: os.pwrite(descriptor, b"x", 0)):
        with pytest.raises(PermissionError):
            change()


def test_a_changed_file_is_refused_even_where_the_right_one_is_held(path: Path, start: Start) -> None:
    parent, sha256 = SharedCopies(), sha256_of(path)
    worker = start(parent)
    path.write_bytes(CONTENT[::-1])
    with pytest.raises(FileChangedError):
        worker.copy(path, sha256)
    assert not parent.held
    path.write_bytes(CONTENT)
    worker.copy(path, sha256)
    path.write_bytes(CONTENT[::-1])
    with pytest.raises(FileChangedError):
        start(parent).copy(path, sha256)


async def test_a_copy_is_kept_while_a_worker_serves_it(path: Path, tmp_path: Path, start: Start) -> None:
    parent = SharedCopies()
    one, two = start(parent), start(parent)
    (tmp_path / "next").write_bytes(CONTENT[1:])
    first, then = sha256_of(path), sha256_of(tmp_path / "next")
    for worker in (one, two):
        worker.copy(path, first)
        worker.loans.settle(served=True)
    one.copy(tmp_path / "next", then)
    assert parent.held == {first, then}
    one.loans.settle(served=False)  # it has refused the bundle
    assert parent.held == {first}
    one.copy(tmp_path / "next", then)
    one.loans.settle(served=True)
    assert parent.held == {first, then}  # the other serves the one before
    two.end.close()  # it has died
    await eventually(lambda: parent.held == {then})
    one.end.close()
    await eventually(lambda: not parent.held)


@pytest.mark.parametrize("answer", [b"", b"no", NEW, HELD])
def test_a_worker_copies_for_itself_where_the_parent_gives_nothing(path: Path, answer: bytes) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    source = os.open(path, os.O_RDONLY)
    with ours, theirs:
        ours.send(answer) if answer else ours.close()
        assert bytes(BorrowedCopies(theirs, shared_from=0).copy(source, sha256_of(path))) == CONTENT
    os.close(source)


def test_a_hash_that_is_none_is_refused(path: Path, start: Start) -> None:
    parent = SharedCopies()
    for sha256 in ("", "\ud800", "0" * 200, sha256_of(path) + "0"):
        with pytest.raises(FileChangedError):
            start(parent).copy(path, sha256)
