"""Tests journal and submissions: an interrupted run, also of an older version, is continued by the next."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.contracts import BundleError
from service.captioning.journal import Journal
from service.captioning.submissions import Submission, Submissions

BATCHES = (
    '[{"items": ["I001", "I002"], "token": "0123456789abcdef", "at": 1764192000.5, "batches": []}, '
    '{"items": ["I003"], "token": "fedcba9876543210", "at": 1764192001.0, "batches": ["batch_1", "batch_2"]}]'
)
"""A file of submissions as every version writes it."""


def test_submissions_are_read_and_written_in_one_format(tmp_path: Path) -> None:
    path = tmp_path / "test.batches"
    path.write_text(BATCHES)
    first, second = submissions = Submissions(path)
    assert not first.batches
    assert first.request_name(1) == "0123456789abcdef-1"
    assert first.item_id("0123456789abcdef-1") == "I002"
    assert (second.items, second.batches) == (("I003",), ("batch_1", "batch_2"))
    submissions.save(first)
    assert path.read_text() == BATCHES


def test_submissions_leave_no_file_once_they_are_forgotten(tmp_path: Path) -> None:
    submissions = Submissions(tmp_path / "test.batches")
    submission = Submission(("I001",))
    submissions.save(submission)
    assert [each.token for each in Submissions(submissions.path)] == [submission.token]
    submissions.remove(submission)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["0123456789abcdef-2", "0123456789abcdef-x", "other-0", "0", ""])
def test_a_result_of_another_batch_is_about_no_item(name: str) -> None:
    assert Submission(("I001", "I002"), token="0123456789abcdef").item_id(name) is None


@pytest.mark.parametrize("content", ["[{", "{}1", '[{"items": ["I001"]}]', "[1]", "\0"])
def test_damaged_submissions_are_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "test.batches").write_text(content)
    with pytest.raises(BundleError, match="is damaged"):
        Submissions(tmp_path / "test.batches")


def test_a_journal_names_the_calls_that_began_and_never_ended(tmp_path: Path) -> None:
    path = tmp_path / "test.calls"
    path.write_bytes(b"+I001\n+I002\n-I001\n+I0\xc3")
    assert Journal(path).unfinished == ("I002", "I0\ufffd")


def test_a_journal_is_on_the_disk_at_once_and_gone_when_all_calls_have_ended(tmp_path: Path) -> None:
    path = tmp_path / "test.calls"
    journal = Journal(path)
    journal.begin("I001")
    journal.begin("I002")
    journal.end("I001")
    assert path.read_text() == "+I001\n+I002\n-I001\n"
    journal.close()
    assert Journal(path).unfinished == ("I002",)
    journal = Journal(path)
    journal.begin("I002")
    journal.end("I002")
    journal.close()
    assert not path.exists()
