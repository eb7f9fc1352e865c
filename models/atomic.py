"""Writes files and folders atomically: a crash, a full disk or a Ctrl-C leaves the old version or the new."""

from __future__ import annotations

import errno
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from models.contracts.one_writer import open_locked
from models.errors import WriteError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Numbers of the errors of a full disk, a quota that is used up, and a file that may not grow further."""

log = logging.getLogger(__name__)


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Yields an empty folder, which takes its real name when the block ends without an error.

    Args:
        target: path of the finished folder. A folder that is there is replaced at the end of the block, and
            kept when the block raises.

    Yields:
        An empty folder beside ``target``, on the same file system, so that one rename finishes it.

    Raises:
        WriteError: the disk is full.
    """
    made = not target.parent.exists()
    target.parent.mkdir(parents=True, exist_ok=True)
    _tidy(target)
    # Beside the target, so that a rename never crosses file systems.
    scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    draft, old = scratch / "new", scratch / "old"
    draft.mkdir()
    try:
        try:
            yield draft
        except OSError as error:
            if _disk_is_full(error):
                raise WriteError(_cannot_write(target, error)) from error
            raise
        try:
            # A folder cannot replace a full one in a single rename, hence two and a way back.
            if target.exists():
                target.rename(old)
            draft.rename(target)
        except BaseException:  # also a Ctrl-C between the two renames: the old folder may hold paid captions
            if old.exists() and not target.exists():
                old.rename(target)
            raise
    finally:
        if target.exists() or not old.exists():
            shutil.rmtree(scratch, ignore_errors=True)
        else:
            # The rename back failed too: the old folder stays in the scratch folder, and the log says where.
            log.error("%s was interrupted: rename %s to %s to have it back", target, old, target)
        if made and not any(target.parent.iterdir()):
            target.parent.rmdir()


@contextmanager
def new_file(target: Path) -> Iterator[BinaryIO]:
    """Yields an open file, which takes its real name when the block ends without an error.

    Args:
        target: path of the finished file. A file that is there is kept when the block raises.

    Yields:
        A file of bytes beside ``target``; the block does nothing but write it.

    Raises:
        WriteError: the file cannot be written.
        BusyError: another process is writing it.
    """
    draft = target.with_name(f".{target.name}.new")
    try:
        descriptor = open_locked(draft, os.O_WRONLY | os.O_CREAT)
        # The lock ends with the file, so the draft is renamed or removed before.
        with open(descriptor, "wb") as stream:  # noqa: PTH123 - a descriptor has no path
            try:
                os.ftruncate(descriptor, 0)  # of a process that was killed
                yield stream
                stream.flush()
                draft.replace(target)
            except BaseException:
                draft.unlink(missing_ok=True)
                raise
    except OSError as error:
        raise WriteError(_cannot_write(target, error)) from error


def write_text(target: Path, text: str) -> None:
    """Writes a UTF-8 file under a temporary name, then renames it.

    Raises:
        WriteError: the file cannot be written.
        BusyError: another process is writing it.
    """
    with new_file(target) as stream:
        stream.write(text.encode("utf-8"))


def append_line(target: Path, line: str) -> None:
    """Appends a line of UTF-8 to a file, which is made if it is missing; several processes may do so at once.

    A line that a full disk has cut is ended first, so that it spoils no other one.

    Raises:
        WriteError: the line cannot be written.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open(
            "ab+", buffering=0
        ) as stream:  # one call of write for a line, at the end of the file
            cut = (
                stream.seek(0, os.SEEK_END) > 0
                and stream.seek(-1, os.SEEK_END) >= 0
                and stream.read(1) != b"\n"
            )
            content = (("\n" if cut else "") + line + "\n").encode("utf-8")
            if stream.write(content) != len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError as error:
        raise WriteError(_cannot_write(target, error)) from error


def _tidy(target: Path) -> None:
    """Removes what a killed process left; a folder that it had moved aside gets its name back.

    The caller is the only writer beside ``target``, as every command sees to by ``one_writer``.
    """
    # As mkdtemp names it: the folder of "a-b" is not taken for one of "a".
    left = re.compile(rf"\.{re.escape(target.name)}-[a-z0-9_]{{8}}")
    for scratch in [path for path in target.parent.iterdir() if left.fullmatch(path.name)]:
        if (scratch / "old").exists() and not target.exists():
            (scratch / "old").rename(target)
        shutil.rmtree(scratch, ignore_errors=True)


def _disk_is_full(error: OSError) -> bool:
    # numpy's tofile gives no number, only how much was written.
    return error.errno in FULL or "requested and" in str(error)


def _cannot_write(target: Path, error: OSError) -> str:
    reason = "the disk is full" if _disk_is_full(error) else error.strerror or str(error)
    return f"cannot write {target}: {reason}; mend that and call the same command again"
