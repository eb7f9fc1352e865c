"""Lets one process at a time write a file or a folder: a second one is refused at once, with a sentence.

The lock is ``flock`` on the file or folder itself. It ends with the process, however that ends, and leaves
nothing behind. On Windows, which has no ``flock``, nothing is locked.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class BusyError(Exception):
    """Another process writes the file or folder; the message names it."""


@contextmanager
def one_writer(folder: Path) -> Iterator[None]:
    """Keeps a folder from other writers until the block ends.

    Args:
        folder: folder, made if it is missing; one that was made and is still empty at the end is removed.

    Raises:
        BusyError: another process writes it, or reads it under ``no_writer``.
    """
    made = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    if sys.platform == "win32":
        yield
        return
    descriptor = open_locked(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield
    finally:
        if made and not any(folder.iterdir()):
            folder.rmdir()
        os.close(descriptor)  # gives the lock back too


@contextmanager
def no_writer(folder: Path) -> Iterator[None]:
    """Keeps writers from a folder, which other processes may read too, until the block ends.

    Raises:
        BusyError: another process writes it.
    """
    if sys.platform == "win32" or not folder.is_dir():
        yield
        return
    descriptor = open_locked(folder, os.O_RDONLY | os.O_DIRECTORY, shared=True)
    try:
        yield
    finally:
        os.close(descriptor)


def open_locked(path: Path, flags: int, *, shared: bool = False) -> int:
    """Opens a file or folder and locks it; closing the descriptor gives the lock back.

    Args:
        path: file or folder.
        flags: flags of ``os.open``; a folder that is missing is made again with ``O_DIRECTORY``.
        shared: whether other processes may have a shared lock too.

    Raises:
        BusyError: another process has locked it.
        OSError: it cannot be opened.
    """
    while True:
        descriptor = os.open(path, flags, 0o666)
        try:
            lock(descriptor, path, shared=shared)
            if _is_at(path, descriptor):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        # Its last writer has removed or replaced it between the two calls.
        os.close(descriptor)
        if flags & getattr(os, "O_DIRECTORY", 0):
            path.mkdir(parents=True, exist_ok=True)


def lock(descriptor: int, path: Path, *, shared: bool = False) -> None:
    """Locks an open file or folder until its descriptor is closed.

    Raises:
        BusyError: another process has locked it.
    """
    if sys.platform == "win32":
        return
    import fcntl  # not on Windows

    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise BusyError(f"another run writes {path}: wait for it to end") from error


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
