"""Writes files and folders atomically: a crash, a full disk or a Ctrl-C leaves the old version or the new."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

log = logging.getLogger(__name__)


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Yields an empty folder, which takes its real name when the block ends without an error.

    Args:
        target: path of the finished folder. A folder that is there is replaced at the end of the block, and
            kept when the block raises.

    Yields:
        An empty folder beside ``target``, on the same file system, so that one rename finishes it.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    # Beside the target, so that a rename never crosses file systems.
    scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    draft, old = scratch / "new", scratch / "old"
    draft.mkdir()
    try:
        yield draft
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


def write_text(target: Path, text: str) -> None:
    """Writes a UTF-8 file under a temporary name, then renames it."""
    draft = target.with_name(f".{target.name}.new")
    try:
        draft.write_text(text, encoding="utf-8", newline="\n")
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)
