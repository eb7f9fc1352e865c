"""Writes results so that an old file is never half replaced."""

from __future__ import annotations

from pathlib import Path

from benchmarks.errors import BenchmarkError


def write_text(path: Path, text: str) -> None:
    """Write to a temporary name, then rename.

    Raises:
        BenchmarkError: the folder cannot be written.
    """
    temporary = path.with_name(path.name + ".tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        raise BenchmarkError(f"cannot write {path}: {error.strerror}") from error
