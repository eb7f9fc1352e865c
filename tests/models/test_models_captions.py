from __future__ import annotations

import logging
from pathlib import Path

import pytest

from models.captions import read_captions, write_captions
from models.contracts import BundleError, Caption


def caption(item_id: str, text: str) -> Caption:
    return Caption(item_id, "simulator", "sim-1", "v1", text)


def test_captions_come_back_as_they_were_written(tmp_path: Path) -> None:
    written = [caption("A", "Ein „Krug“,\nrot\u2028\U0001f600"), caption("B", "")]
    write_captions(tmp_path / "new" / "sim.jsonl", written)
    assert list(read_captions(tmp_path / "new" / "sim.jsonl").values()) == written


def test_the_last_caption_of_an_item_counts(tmp_path: Path) -> None:
    write_captions(tmp_path / "c.jsonl", [caption("A", "first"), caption("A", "second")])
    assert read_captions(tmp_path / "c.jsonl")["A"].caption == "second"


def test_a_line_cut_off_by_a_crash_is_left_out_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "c.jsonl"
    write_captions(path, [caption("A", "whole"), caption("B", "cut off")])
    path.write_bytes(path.read_bytes()[:-12])
    with caplog.at_level(logging.WARNING):
        assert list(read_captions(path)) == ["A"]
    assert "left out" in caplog.text


def test_a_last_line_without_newline_counts_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    write_captions(path, [caption("A", "whole")])
    path.write_bytes(path.read_bytes().rstrip())
    assert list(read_captions(path)) == ["A"]


@pytest.mark.parametrize("line", ["{", "[]", '{"item_id": "A"}', '{"item_id": 3}', "null", "\xff"])
def test_a_damaged_line_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "c.jsonl"
    write_captions(path, [caption("A", "whole")])
    with path.open("ab") as stream:
        stream.write(line.encode("latin-1") + b"\n")
    with pytest.raises(BundleError, match=r"line 2.*remove the line"):
        read_captions(path)
