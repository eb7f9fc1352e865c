"""Writing so that a crash, a full disk or a Ctrl-C leaves either the old thing or the new one."""

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
    """Fill a folder under a temporary name; it takes its real name when the block ends without an error.

    Args:
        target: the real name. What stands there is replaced at the end, and untouched after an error.

    Yields:
        The empty folder to fill, beside ``target``.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    workshop = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    draft, old = workshop / "new", workshop / "old"
    draft.mkdir()
    try:
        yield draft
        try:
            if target.exists():
                target.rename(old)
            draft.rename(target)
        except BaseException:  # a Ctrl-C between the two as well: the old folder may hold paid captions
            if old.exists() and not target.exists():
                old.rename(target)
            raise
    finally:
        if target.exists() or not old.exists():
            shutil.rmtree(workshop, ignore_errors=True)
        else:
            log.error("%s was interrupted: rename %s to %s to have it back", target, old, target)


def write_text(target: Path, text: str) -> None:
    """Write a UTF-8 file under a temporary name, then rename it."""
    draft = target.with_name(f".{target.name}.new")
    try:
        draft.write_text(text, encoding="utf-8", newline="\n")
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)
