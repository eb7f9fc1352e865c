from __future__ import annotations

from pathlib import Path

import pytest

from models.contracts.one_writer import BusyError, no_writer, one_writer


def test_a_second_writer_is_refused_until_the_first_one_ends(tmp_path: Path) -> None:
    with (
        one_writer(tmp_path),
        pytest.raises(BusyError, match=f"another run writes {tmp_path}: wait for it to end"),
        one_writer(tmp_path),
    ):
        pytest.fail("two writers")
    with one_writer(tmp_path):
        assert list(tmp_path.iterdir()) == []  # the lock is no file


def test_readers_keep_a_writer_away_and_not_each_other(tmp_path: Path) -> None:
    with no_writer(tmp_path), no_writer(tmp_path), pytest.raises(BusyError), one_writer(tmp_path):
        pytest.fail("a writer beside readers")


def test_a_folder_that_was_made_and_stays_empty_is_removed(tmp_path: Path) -> None:
    with one_writer(tmp_path / "new"):
        assert (tmp_path / "new").is_dir()
    assert not (tmp_path / "new").exists()
    with one_writer(tmp_path / "new"):
        (tmp_path / "new" / "file").touch()
    with one_writer(tmp_path):
        assert (tmp_path / "new" / "file").exists()
