"""Tests the writer of caption files: appended captions are read back, and a torn line is repaired first."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import pytest

from models.contracts import BundleError
from models.contracts.captions import (
    MAX_CAPTION,
    MAX_LINE,
    Caption,
    CaptionFile,
    caption_files,
    caption_path,
    read_captions,
    write_captions,
)


def caption(item_id: str, text: str = "A “mug”.") -> Caption:
    return Caption(item_id, "simulator", "sim-1", "v1", text)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return caption_path(tmp_path, "sim")


def lines(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def test_captions_come_back_as_they_were_written(path: Path) -> None:
    written = [caption("A", "Ein „Krug“,\nrot\u2028\U0001f600\0"), caption("Ä\ud800")]
    write_captions(path, written)
    assert list(read_captions(path).values()) == written
    with CaptionFile(path) as file:
        file.append(caption("B"))
        assert list(file.latest.values()) == [*written, caption("B")]
    assert list(read_captions(path).values()) == [*written, caption("B")]


def test_the_folder_of_a_catalogue_holds_one_file_a_captioner(tmp_path: Path) -> None:
    for captioner in ("sim", "gpt-5.4"):
        write_captions(caption_path(tmp_path, captioner), [])
    (tmp_path / "captions" / "sim.calls").touch()
    assert list(caption_files(tmp_path)) == ["gpt-5.4", "sim"]


def test_there_are_no_captions_where_there_is_no_file(path: Path) -> None:
    assert read_captions(path) == {}
    assert caption_files(path.parents[1]) == {}
    assert not path.exists()


def test_the_last_caption_of_an_item_counts(path: Path) -> None:
    write_captions(path, [caption("A", "first"), caption("A", "second")])
    assert read_captions(path)["A"].caption == "second"
    with CaptionFile(path) as file:
        file.append(caption("A", "third"))
        assert file.latest["A"].caption == "third"


def test_a_lone_surrogate_in_a_caption_is_a_question_mark_on_the_disk(path: Path) -> None:
    with CaptionFile(path) as file:
        file.append(caption("A", "\ud800 mug"))
        assert file.latest == read_captions(path) == {"A": caption("A", "? mug")}
    assert b'"? mug"' in path.read_bytes()


@pytest.mark.parametrize("line", ["{", "[]", '{"item_id": "A"}', '{"item_id": 3}', "null", "\xff"])
def test_too_many_damaged_lines_are_named_and_stop_the_writer_before_it_writes(path: Path, line: str) -> None:
    write_captions(path, [caption("A", "whole")])
    with path.open("ab") as stream:
        stream.write(line.encode("latin-1") + b"\n")
    before = path.read_bytes()
    for opened in (read_captions, CaptionFile):
        with pytest.raises(BundleError, match=r"1 of 2 lines .*line 2.*remove them"):
            opened(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize(("damaged", "others"), [(1, 4), (10, 40), (10, 90), (11, 1089), (12, 1188)])
def test_few_damaged_lines_are_left_out_and_stay_where_they_are(
    path: Path, damaged: int, others: int, caplog: pytest.LogCaptureFixture
) -> None:
    write_captions(path, [caption(f"A{number}") for number in range(others)])
    path.write_bytes(b"mug\n" * damaged + path.read_bytes())
    before = path.read_bytes()
    assert len(read_captions(path)) == others
    assert ("line 1: left out" if damaged == 1 else f"{damaged} lines are left out") in caplog.text
    with CaptionFile(path) as file:
        file.append(caption("B"))
    assert path.read_bytes() == before + path.read_bytes().splitlines(keepends=True)[-1]
    assert len(read_captions(path)) == others + 1
    path.write_bytes(b"mug\n" + before)
    with pytest.raises(BundleError, match=rf"{damaged + 1} of "):
        read_captions(path)


def test_a_line_that_is_too_long_is_left_out_without_being_kept(path: Path) -> None:
    write_captions(path, [caption(f"A{number}") for number in range(9)])
    long = b"{" + b" " * 3 * MAX_LINE + b"}\n"
    path.write_bytes(long + path.read_bytes() + long[:-1])
    with CaptionFile(path) as file:  # the last one is torn
        file.append(caption("B"))
        assert len(file.latest) == 10
    assert len(read_captions(path)) == 10


def test_a_paid_caption_that_is_too_long_is_cut_and_a_foreign_one_left_out(path: Path) -> None:
    with CaptionFile(path) as file:
        file.append(*(caption(f"A{number}", "\0" * 20_000) for number in range(5)))
    assert {len(each.caption) for each in read_captions(path).values()} == {MAX_CAPTION}
    foreign = json.dumps({"item_id": "B", "caption": "x" * (MAX_CAPTION + 1)}).encode() + b"\n"
    path.write_bytes(path.read_bytes() + foreign)
    assert "B" not in read_captions(path)


@pytest.mark.parametrize("kind", ["folder", "pipe", "link"])
def test_what_is_no_regular_file_is_refused_at_once(path: Path, kind: str) -> None:
    path.parent.mkdir()
    {
        "folder": path.mkdir,
        "pipe": lambda: os.mkfifo(path),
        "link": lambda: path.symlink_to("x/y"),
    }[kind]()
    for opened in (read_captions, CaptionFile):
        with pytest.raises(BundleError, match=r"sim\.jsonl"):
            opened(path)


def test_files_that_no_captioner_is_named_after_are_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "captions").mkdir()
    for name in ("a b", ".hidden", "é", "x\n", "y" * 129, *(f"m{number:02}" for number in range(70))):
        (tmp_path / "captions" / f"{name}.jsonl").touch()
    assert list(caption_files(tmp_path)) == [f"m{number:02}" for number in range(64)]
    assert "caption files left out: 11" in caplog.text


def test_a_torn_line_is_left_out_with_a_warning(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_captions(path, [caption("A"), caption("B")])
    path.write_bytes(path.read_bytes()[:-12])
    with caplog.at_level(logging.WARNING):
        assert list(read_captions(path)) == ["A"]
    assert "left out" in caplog.text


def test_a_torn_line_is_removed_before_anything_is_appended(path: Path) -> None:
    with CaptionFile(path) as file:
        file.append(caption("A"))
        file.append(caption("B"))
    whole = path.read_bytes()
    last = whole.index(b"\n") + 1
    for torn in range(last + 1, len(whole) - 1):
        path.write_bytes(whole[:torn])
        with CaptionFile(path) as file:
            assert list(file.latest) == ["A"]
            assert path.read_bytes() == whole[:last]
            file.append(caption("B"))
        assert path.read_bytes() == whole


def test_a_whole_caption_without_a_newline_gets_one_before_anything_is_appended(path: Path) -> None:
    write_captions(path, [caption("A")])
    whole = path.read_bytes()
    path.write_bytes(whole.rstrip())
    with CaptionFile(path) as file:
        assert list(file.latest) == ["A"]
        assert path.read_bytes() == whole
        file.append(caption("B"))
    assert [line["item_id"] for line in lines(path)] == ["A", "B"]


def test_several_captions_are_appended_together_or_not_at_all(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with CaptionFile(path) as file:
        file.append(caption("A"))
        before = path.read_bytes()
        write = os.write
        monkeypatch.setattr(os, "write", lambda descriptor, content: write(descriptor, content[:-30]))
        with pytest.raises(OSError, match="bytes fit"):  # as on a full disk
            file.append(caption("B"), caption("C"))
        monkeypatch.undo()
        assert path.read_bytes() == before
        assert list(file.latest) == ["A"]
        file.append(caption("B"), caption("C"))
    assert list(read_captions(path)) == ["A", "B", "C"]


def test_a_caption_is_on_the_disk_when_append_returns(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[bytes] = []
    with CaptionFile(path) as file:
        monkeypatch.setattr(os, "fsync", lambda _: synced.append(path.read_bytes()))
        file.append(caption("A"))
    assert synced == [path.read_bytes()]


def test_a_run_that_writes_no_caption_leaves_no_file(path: Path) -> None:
    with CaptionFile(path):
        assert path.exists()
    assert not path.parent.exists()
    with CaptionFile(path) as file:
        file.append(caption("1"))
    assert path.exists()


def test_a_caption_file_is_written_by_one_process_at_a_time(path: Path) -> None:
    waits = []
    with CaptionFile(path), pytest.raises(BundleError, match="another run"):
        CaptionFile(path, patience=0.05, waiting=lambda: waits.append(True))
    assert waits == [True]
    with CaptionFile(path):
        pass
