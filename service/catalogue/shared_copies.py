"""Shares one copy in memory of each large file of the bundle between all workers.

The parent makes the copy, in a file that lies in memory and is sealed: no process can change or shrink it. It
lends the descriptor to every worker that asks, over a pair of sockets beside that of the messages.
"""

from __future__ import annotations

import fcntl
import logging
import mmap
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from service.catalogue.file_copies import FileChangedError, PrivateCopies, checked_blocks

IS_AVAILABLE = hasattr(os, "memfd_create")
"""Whether the system has files in memory (Linux); elsewhere every worker copies for itself."""

SHARED_FROM_BYTES = 64 << 20
"""Bytes from which on a file is shared; each worker copies a smaller one for itself. Memory files have small
pages, over which the product of a user with all items takes up to a quarter longer than over own memory."""

NEW, HELD, NONE = b"new", b"old", b"no"
"""Answers of the parent: a copy of the very file that it was shown, one that it had, or none."""

_REQUEST_BYTES = 65
"""One more than a hexadecimal SHA-256 has: what is cut off here is none."""

logger = logging.getLogger("service.processes")


class Loans:
    """The copies that one worker uses, by their hashes; made by ``SharedCopies.lend``.

    Attributes:
        served: those of the bundle that it serves.
        asked: those that it has asked for since, for a bundle that it opens.
    """

    def __init__(self, copies: SharedCopies) -> None:
        self.served: frozenset[str] = frozenset()
        self.asked: frozenset[str] = frozenset()
        self._copies = copies

    def settle(self, *, served: bool) -> None:
        """Notes that the worker has opened a bundle; copies that no worker uses any more are closed.

        Args:
            served: whether it serves the bundle now; otherwise it has refused it.
        """
        self._copies.settle(self, served=served)


class SharedCopies:
    """Holds the copies that workers serve or are opening; made in the parent. Thread-safe."""

    def __init__(self) -> None:
        self._descriptors: dict[str, int] = {}
        self._loans: set[Loans] = set()
        self._table = threading.Lock()  # held for moments
        self._copying = threading.Lock()  # held while a file is copied: no file is copied twice

    def lend(self, end: socket.socket) -> Loans:
        """Lends copies to a worker in a thread, until the worker ends.

        Args:
            end: one end of ``open_pair()``; it is closed at the end.
        """
        loans = Loans(self)
        with self._table:
            self._loans.add(loans)
        threading.Thread(target=self._answer, args=(end, loans), name="copies", daemon=True).start()
        return loans

    def settle(self, loans: Loans, *, served: bool) -> None:
        """See ``Loans.settle``."""
        with self._table:
            if served:
                loans.served = loans.asked
            loans.asked = frozenset()
            self._close_unused()

    @property
    def held(self) -> frozenset[str]:
        """Hashes of the files that it has copies of."""
        with self._table:
            return frozenset(self._descriptors)

    def _answer(self, end: socket.socket, loans: Loans) -> None:
        try:
            with end:
                while request := _received(end):
                    self._lend_one(end, loans, *request)
        except OSError as error:
            logger.debug("a worker has ended, or does not take what it asked for: %s", error)
        finally:
            with self._table:
                self._loans.remove(loans)
                self._close_unused()

    def _lend_one(self, end: socket.socket, loans: Loans, sha256: str, source: int | None) -> None:
        if source is None:  # this process has no descriptor left
            end.send(NONE)
            return
        try:
            with self._copying:
                answer, descriptor = self._find_or_copy(sha256, source, loans)
        except (FileChangedError, OSError) as error:
            # The worker finds the same, or copies the file for itself.
            logger.debug("no copy of %s is shared: %r", sha256, error)
            end.send(NONE)
        else:
            socket.send_fds(end, [answer], [descriptor])
        finally:
            os.close(source)

    def _find_or_copy(self, sha256: str, source: int, loans: Loans) -> tuple[bytes, int]:
        with self._table:
            loans.asked |= {sha256}
            if sha256 in self._descriptors:
                return HELD, self._descriptors[sha256]
        descriptor = _sealed_copy(source, sha256)
        with self._table:
            self._descriptors[sha256] = descriptor
        return NEW, descriptor

    def _close_unused(self) -> None:
        used = frozenset[str]().union(*(each.served | each.asked for each in self._loans))
        for sha256 in self._descriptors.keys() - used:
            os.close(self._descriptors.pop(sha256))


class BorrowedCopies:
    """Asks the parent for copies of large files, in a worker; other files it copies for itself. Thread-safe.

    Args:
        end: the other end of ``open_pair()``.
        shared_from: bytes from which on a file is large.
    """

    def __init__(self, end: socket.socket, shared_from: int = SHARED_FROM_BYTES) -> None:
        self._end = end
        self._shared_from = shared_from
        self._one_at_a_time = threading.Lock()
        self._private = PrivateCopies()

    def copy(self, source: int, sha256: str) -> memoryview:
        """Returns the contents of a file, see ``FileCopies``."""
        if os.fstat(source).st_size < self._shared_from:
            return self._private.copy(source, sha256)
        with self._one_at_a_time, self._borrowed(source, sha256) as (answer, descriptor):
            if descriptor is None:
                return self._private.copy(source, sha256)
            if answer == HELD:  # of a file that was the same; this one must be so too
                for _ in checked_blocks(source, os.fstat(source).st_size, sha256):
                    continue
            # Linux before 6.7 maps no sealed file as shared; what is not written is shared all the same.
            return memoryview(mmap.mmap(descriptor, 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ))

    @contextmanager
    def _borrowed(self, source: int, sha256: str) -> Iterator[tuple[bytes, int | None]]:
        try:
            socket.send_fds(self._end, [sha256.encode(errors="replace")], [source])
            answer, descriptors, _, _ = socket.recv_fds(self._end, len(NEW), 1, socket.MSG_CMSG_CLOEXEC)
        except OSError:  # the parent has ended, and this process soon will
            answer, descriptors = NONE, []
        descriptor = descriptors[0] if descriptors else None
        try:
            yield answer, descriptor
        finally:
            if descriptor is not None:
                os.close(descriptor)


def open_pair() -> tuple[socket.socket, socket.socket]:
    """Returns two connected sockets that keep requests apart and carry descriptors."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def _received(end: socket.socket) -> tuple[str, int | None] | None:
    """Returns the next request, a hash and the descriptor of a file; None when the worker has ended.

    Raises:
        OSError: it ended in the middle of a request.
    """
    request, descriptors, _, _ = socket.recv_fds(end, _REQUEST_BYTES, 1, socket.MSG_CMSG_CLOEXEC)
    if not request:
        return None
    return request.decode(errors="replace"), descriptors[0] if descriptors else None


def _sealed_copy(source: int, sha256: str) -> int:
    """Copies a file into one that lies in memory and can never change; returns its descriptor.

    Raises:
        FileChangedError: the file is not the one with this hash.
        OSError: it cannot be read, or the memory is not there.
    """
    descriptor = os.memfd_create("bundle", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        with open(descriptor, "wb", closefd=False) as copy:
            for block in checked_blocks(source, os.fstat(source).st_size, sha256):
                copy.write(block)
        fcntl.fcntl(
            descriptor,
            fcntl.F_ADD_SEALS,
            fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL,
        )
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
