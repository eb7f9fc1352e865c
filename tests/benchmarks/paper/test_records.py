from __future__ import annotations

import json
from pathlib import Path

import pytest
from full_disk import full_disk

from benchmarks.errors import BenchmarkError
from benchmarks.paper.records import RecordFile, read_records

HEADER = {"options": {"k": 30, "seed": 1}, "dataset": "tiny"}


def record(user: int, strategy: str = "none") -> dict[str, object]:
    return {"user": user, "strategy": strategy, "title": "Crème brûlée set"}


def written(path: Path, users: int = 3) -> bytes:
    with RecordFile(path, HEADER) as records:
        for user in range(users):
            records.append(record(user))
    return path.read_bytes()


def test_a_run_reads_back_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "r.jsonl"
    written(path)
    run = read_records(path)
    assert run.header["options"] == HEADER["options"]
    assert [r["user"] for r in run.records] == [0, 1, 2]
    assert run.records[0]["title"] == "Crème brûlée set"


def test_an_answer_is_on_disk_as_soon_as_append_returns(tmp_path: Path) -> None:
    with RecordFile(tmp_path / "r.jsonl", HEADER) as records:
        records.append(record(5))
        assert [r["user"] for r in read_records(records.path).records] == [5]


def test_a_resumed_run_knows_what_is_finished_and_keeps_every_line(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    before = written(path)
    with RecordFile(path, HEADER) as records:
        assert records.finished == {(0, "none"), (1, "none"), (2, "none")}
        records.append(record(0, "s3"))
    assert path.read_bytes().startswith(before)
    assert len(read_records(path).records) == 4


def test_failed_answers_are_counted_over_all_runs_of_a_file(tmp_path: Path) -> None:
    with RecordFile(tmp_path / "r.jsonl", HEADER) as records:
        records.append({**record(0), "error": "500: broken"})
        records.append({**record(1), "error": None})
        assert records.failures == 1
    with RecordFile(tmp_path / "r.jsonl", HEADER) as records:
        assert records.failures == 1
        records.append({**record(2), "error": "500: broken"})
        assert records.failures == 2


def test_a_run_cut_at_any_byte_resumes_with_its_complete_lines(tmp_path: Path) -> None:
    whole = written(tmp_path / "whole.jsonl")
    for cut in range(len(whole) + 1):
        path = tmp_path / "cut.jsonl"
        path.write_bytes(whole[:cut])
        complete = max(0, whole[:cut].count(b"\n") - 1)
        with RecordFile(path, HEADER) as records:
            assert len(records.finished) == complete
            for user in range(3):
                if (user, "none") not in records.finished:
                    records.append(record(user))
        assert path.read_bytes() == whole


def test_a_half_written_last_line_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_bytes(written(path)[:-5])
    assert [r["user"] for r in read_records(path).records] == [0, 1]


def test_other_options_are_refused_by_name_and_the_file_stays_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    before = written(path)
    other = {"options": {"k": 10, "seed": 1, "model": "x"}}
    with pytest.raises(BenchmarkError, match=r"k 30 \(now 10\), model not given \(now x\)"):
        RecordFile(path, other)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "contents", ["my shopping list", "my shopping list\n", '{"kind": "answer"}\n', "{\n"]
)
def test_a_file_that_is_not_ours_is_refused_and_left_alone(tmp_path: Path, contents: str) -> None:
    path = tmp_path / "mine.txt"
    path.write_text(contents)
    with pytest.raises(BenchmarkError, match="not a file of records"):
        RecordFile(path, HEADER)
    assert path.read_text() == contents


DAMAGED = (
    "oops",
    "[1]",
    '{"kind": "answer", "user": "0", "strategy": "s1"}',
    '{"kind": "answer", "user": 0, "strategy": "s9"}',
    '{"kind": "answer", "user": 0, "strategy": "s1", "items": [1]}',
    '{"kind": "answer", "user": 0, "strategy": "s1", "lvlm": "x"}',
    "\0\0\0",
    "[" * 100_000,
    "",
)


def with_line(path: Path, line: str, users: int = 20) -> Path:
    """Puts a damaged line in the place of the second record."""
    lines = written(path, users).decode().splitlines()
    path.write_text("\n".join([*lines[:2], line, *lines[3:]]) + "\n")
    return path


@pytest.mark.parametrize("line", DAMAGED, ids=lambda line: line[:20] or "empty")
def test_a_damaged_line_is_left_out_by_name_and_its_user_is_asked_again(
    tmp_path: Path, line: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = with_line(tmp_path / "r.jsonl", line)
    assert [r["user"] for r in read_records(path).records] == [0, *range(2, 20)]
    assert "r.jsonl, line 3: records left out: a line is no record" in caplog.text
    with RecordFile(path, HEADER) as records:
        assert (1, "none") not in records.finished
        records.append(record(1))
    assert len(read_records(path).records) == 20


def test_a_line_beyond_the_limit_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.paper.records.LINE_LIMIT", 200)
    path = with_line(tmp_path / "r.jsonl", json.dumps(record(1) | {"kind": "answer", "much": "x" * 900}))
    assert len(read_records(path).records) == 19


def test_a_file_with_too_many_damaged_lines_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = with_line(tmp_path / "r.jsonl", "oops", users=3)
    before = path.read_bytes()
    for opened in (read_records, lambda path: RecordFile(path, HEADER)):
        with pytest.raises(BenchmarkError, match="1 of 3 lines are no records: replay again into another"):
            opened(path)
    assert path.read_bytes() == before


def test_a_byte_order_mark_is_borne_and_the_first_answer_of_a_user_counts(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    contents = written(path)
    again = json.dumps(record(1) | {"kind": "answer", "b": 2}).encode()
    path.write_bytes(b"\xef\xbb\xbf" + contents + again + b"\n")
    run = read_records(path)
    assert [r["user"] for r in run.records] == [0, 1, 2]
    assert "b" not in run.records[1]


def test_a_second_run_into_one_file_is_refused_until_the_first_one_ends(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    with RecordFile(path, HEADER) as records:
        with pytest.raises(BenchmarkError, match=r"another run writes .*r\.jsonl: wait for it to end"):
            RecordFile(path, HEADER)
        records.append(record(0))
    with RecordFile(path, HEADER) as records:
        assert records.finished == {(0, "none")}


def test_a_run_without_an_answer_leaves_no_file_and_binds_no_other(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    with RecordFile(path, HEADER):
        assert path.exists()
    assert not path.exists()
    path.write_text(json.dumps({"kind": "header", "schema": 1, "options": {"k": 99}}) + "\n")  # by a kill
    written(path)
    assert read_records(path).header["options"] == HEADER["options"]


def test_a_full_disk_is_one_sentence_and_the_file_stays_whole(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    with RecordFile(path, HEADER) as records:
        records.append(record(0))
        before = path.read_bytes()
        with full_disk(len(before) + 20), pytest.raises(BenchmarkError, match="make room and repeat"):
            records.append(record(1))
        assert path.read_bytes() == before
        records.append(record(1))
    assert len(read_records(path).records) == 2


def test_records_of_another_schema_are_refused_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text(json.dumps({"kind": "header", "schema": 99}) + "\n")
    with pytest.raises(BenchmarkError, match="replay again into another file"):
        read_records(path)


def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match="cannot write"):
        RecordFile(tmp_path, HEADER)
    with pytest.raises(BenchmarkError, match="cannot read"):
        read_records(tmp_path / "absent.jsonl")
