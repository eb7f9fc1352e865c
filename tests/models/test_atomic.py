from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from full_disk import full_disk

from models.atomic import append_line, new_folder, write_text
from models.contracts.one_writer import BusyError, open_locked
from models.errors import WriteError


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def fill_half(target: Path) -> None:
    with new_folder(target) as draft:
        (draft / "file").write_text("half")
        raise KeyboardInterrupt


def replace_with_new(target: Path) -> None:
    with new_folder(target) as draft:
        (draft / "file").write_text("new")


def test_what_a_killed_process_left_is_removed_and_what_it_moved_aside_comes_back(tmp_path: Path) -> None:
    (tmp_path / ".bundle-ab12cd_9" / "old").mkdir(parents=True)
    (tmp_path / ".bundle-ab12cd_9" / "old" / "paid").touch()
    (tmp_path / ".bundle-two-ab12cd_9").mkdir()  # of another folder
    with pytest.raises(KeyboardInterrupt):
        fill_half(tmp_path / "bundle")
    assert names(tmp_path / "bundle") == ["paid"]
    assert sorted(names(tmp_path)) == [".bundle-two-ab12cd_9", "bundle"]


def interrupt_renames(monkeypatch: pytest.MonkeyPatch, error: type[BaseException], moments: set[int]) -> None:
    """Fail before the renames with these numbers, counted from 1."""
    rename, calls = Path.rename, []

    def interrupted(self: Path, target: Path) -> Path:
        calls.append(target)
        if len(calls) in moments:
            raise error
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", interrupted)


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


@pytest.mark.parametrize("moment", [1, 2])
@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_an_interrupted_exchange_puts_the_old_folder_back(
    moment: int, error: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "part"
    with new_folder(target) as draft:
        (draft / "file").write_text("old")
    interrupt_renames(monkeypatch, error, {moment})
    with pytest.raises(error):
        replace_with_new(target)
    assert (target / "file").read_text() == "old"
    assert names(tmp_path) == ["part"]


def test_the_only_copy_survives_when_even_putting_it_back_is_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    target = tmp_path / "part"
    with new_folder(target) as draft:
        (draft / "file").write_text("old")
    interrupt_renames(monkeypatch, KeyboardInterrupt, {2, 3})
    with pytest.raises(KeyboardInterrupt):
        replace_with_new(target)
    (kept,) = tmp_path.glob(".part-*/old")
    assert (kept / "file").read_text() == "old"
    assert f"rename {kept} to {target}" in caplog.text


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


def test_a_full_disk_is_one_sentence_and_keeps_the_old_file_and_folder(tmp_path: Path) -> None:
    target = tmp_path / "file.json"
    write_text(target, "old")
    with new_folder(tmp_path / "part") as draft:
        (draft / "file").write_text("old")
    with full_disk(2), pytest.raises(WriteError, match=r"cannot write .*file\.json: the disk is full"):
        write_text(target, "new and longer")
    with (
        full_disk(2),
        pytest.raises(WriteError, match=r"cannot write .*part: the disk is full"),
        new_folder(tmp_path / "part") as draft,
    ):
        (draft / "file").write_text("new and longer")
    assert (target.read_text(), (tmp_path / "part" / "file").read_text()) == ("old", "old")
    assert sorted(names(tmp_path)) == ["file.json", "part"]


def test_a_file_that_another_process_writes_is_refused_and_a_dead_one_leaves_no_lock(tmp_path: Path) -> None:
    draft = tmp_path / ".file.json.new"
    descriptor = open_locked(draft, os.O_WRONLY | os.O_CREAT)
    with pytest.raises(BusyError, match="another run writes"):
        write_text(tmp_path / "file.json", "new")
    os.close(descriptor)  # as the system does for a killed process
    write_text(tmp_path / "file.json", "new")
    assert names(tmp_path) == ["file.json"]


def test_a_line_is_appended_whole_and_never_to_one_that_was_cut(tmp_path: Path) -> None:
    log = tmp_path / "deep" / "log"
    append_line(log, "one")
    with full_disk(log.stat().st_size + 2), pytest.raises(WriteError, match="the disk is full"):
        append_line(log, "lost")
    append_line(log, "two")
    assert log.read_text() == "one\nlo\ntwo\n"
