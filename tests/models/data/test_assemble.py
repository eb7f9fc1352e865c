from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from models.contracts import Item
from models.data.assemble import RawData, assemble
from models.data.dataset import Dataset
from models.data.report import ReadingReport
from models.errors import DataError


def raw(items: Sequence[str], histories: dict[str, Sequence[int]], **more: object) -> RawData:
    return RawData(
        name="shop",
        items=[Item(item_id, title=f"title {row}") for row, item_id in enumerate(items)],
        users=list(histories),
        offsets=np.cumsum([0, *map(len, histories.values())], dtype=np.int64),
        item_rows=np.array([row for history in histories.values() for row in history], dtype=np.int32),
        item_place=lambda row: f"item {row}",
        user_place=lambda user: f"line {user + 1}",
        **more,  # type: ignore[arg-type]
    )


def taken(dataset: Dataset) -> dict[str, list[str]]:
    return {
        user: [dataset.items[row].item_id for row in history]
        for user, history in zip(dataset.users, dataset.histories, strict=True)
    }


def test_good_data_are_left_as_they_are() -> None:
    report = ReadingReport()
    dataset = assemble(raw("abc", {"u": [0, 2], "v": [], "w": [1]}), report)
    assert taken(dataset) == {"u": ["a", "c"], "v": [], "w": ["b"]}
    assert dataset.report is report
    assert not report.lines()


def test_a_repeated_item_keeps_its_first_time() -> None:
    report = ReadingReport()
    dataset = assemble(raw("abc", {"u": [0, 1, 0, 2, 1], "v": [0]}), report)
    assert taken(dataset) == {"u": ["a", "b", "c"], "v": ["a"]}
    assert report.to_json()["changed"][0]["number"] == 2


def test_an_item_that_cannot_be_named_goes_with_its_interactions() -> None:
    dataset = assemble(
        raw(
            ["a", "\ud800", "c"],
            {"u": [0, 1, 2], "v": [1]},
            captions={"m": {0: "x", 1: "y", 2: "z"}},
            negatives={0: np.array([2, 1]), 1: np.array([0])},
        ),
        ReadingReport(),
    )
    assert taken(dataset) == {"u": ["a", "c"]}
    assert dataset.captions == {"m": {0: "x", 1: "z"}}
    assert dataset.negatives is not None
    assert {user: rows.tolist() for user, rows in dataset.negatives.items()} == {0: [1]}
    left_out = {
        (line["kind"], line["number"]): line["first"] for line in dataset.report.to_json()["left_out"]
    }
    assert left_out == {("items", 1): "item 1", ("interactions", 2): "line 1", ("users", 1): "line 2"}


def test_items_with_one_id_are_one_item() -> None:
    dataset = assemble(raw(["a", "b", "a"], {"u": [2, 1, 0]}), ReadingReport())
    assert [item.title for item in dataset.items] == ["title 0", "title 1"]
    assert taken(dataset) == {"u": ["a", "b"]}


def test_of_users_with_one_id_the_first_stays() -> None:
    data = raw("ab", {"u": [0], "v": [1]})
    dataset = assemble(RawData(**{**vars(data), "users": ["u", "u"]}), ReadingReport())
    assert taken(dataset) == {"u": ["a"]}


def test_a_share_is_refused_and_a_few_of_a_small_set_are_borne() -> None:
    report = ReadingReport()
    report.read("items", 50)
    report.leave_out("items", "of a fault", "line 1", 10)
    report.check()
    report.leave_out("items", "of a fault", "line 9")
    with pytest.raises(DataError, match=r"11 of 50 items .* line 1.*--max-left-out"):
        report.check()
    strict = ReadingReport(limit=0)
    strict.read("items", 5000)
    strict.leave_out("items", "of a fault", "line 1")
    with pytest.raises(DataError, match="1 of 5,000 items"):
        strict.check()


def test_a_report_reads_back_what_it_wrote() -> None:
    report = ReadingReport()
    report.read("items", 500)
    report.leave_out("items", "of a fault", "line 1", 2)
    report.change("interactions", "of a repeat", "line 3")
    report.skip("interactions", "of a return", "line 4", 9_999)
    report.check()
    assert ReadingReport.from_json(report.to_json()).lines() == report.lines()
    assert ReadingReport.from_json({}).lines() == []
