from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from models.atomic import new_folder, write_text


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def fill_half(target: Path) -> None:
    with new_folder(target) as draft:
        (draft / "file").write_text("half")
        raise KeyboardInterrupt


def test_a_new_folder_appears_only_when_it_is_complete(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "part"
    with new_folder(target) as draft:
        (draft / "file").write_text("new")
        assert not target.exists()
    assert (target / "file").read_text() == "new"
    assert names(target.parent) == ["part"]


def test_a_failure_leaves_the_old_folder_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "part"
    with new_folder(target) as draft:
        (draft / "file").write_text("old")
    with pytest.raises(KeyboardInterrupt):
        fill_half(target)
    assert (target / "file").read_text() == "old"
    assert names(tmp_path) == ["part"]


def test_files_of_the_old_folder_do_not_survive_in_the_new_one(tmp_path: Path) -> None:
    target = tmp_path / "part"
    for name in ("one", "two"):
        with new_folder(target) as draft:
            (draft / name).touch()
    assert names(target) == ["two"]


def test_others_may_read_a_new_folder(tmp_path: Path) -> None:
    with new_folder(tmp_path / "part"):
        pass
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE((tmp_path / "part").stat().st_mode) == 0o777 & ~umask


def test_a_text_that_cannot_be_written_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "file.json"
    write_text(target, "old ü")
    with pytest.raises(UnicodeEncodeError):
        write_text(target, "half \ud800")
    assert target.read_text(encoding="utf-8") == "old ü"
    assert names(tmp_path) == ["file.json"]
