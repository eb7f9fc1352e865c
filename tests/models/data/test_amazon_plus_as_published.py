from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
from test_amazon_plus_odd_records import HISTORIES, TAKEN, counted, good, taken, write

from models.data import registry
from models.data.dataset import Dataset
from models.errors import DataError

LISTS = list(HISTORIES.values())
PUBLIC = [[f"I{item}" for item in items] for items in LISTS]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "d", good())


def pickled(folder: Path, value: object, *, alone: bool = True) -> Path:
    (folder / "purchase_history.pkl").write_bytes(pickle.dumps(value))
    if alone:
        (folder / "sequential.txt").unlink()
    return folder


def negatives(dataset: Dataset) -> dict[str, list[str]]:
    return {
        dataset.users[user]: [dataset.items[row].item_id for row in rows]
        for user, rows in (dataset.negatives or {}).items()
    }


@pytest.mark.parametrize(
    "value",
    [
        LISTS,
        PUBLIC,
        [[int(item) for item in items] for items in LISTS],
        [[], *LISTS],
        tuple(map(tuple, LISTS)),
        {int(user): items for user, items in HISTORIES.items()},
        TAKEN,
    ],
    ids=["internal", "public", "numbers", "place for 0", "tuples", "by internal user", "by public user"],
)
def test_histories_are_read_from_a_pickle_alone(folder: Path, value: object) -> None:
    dataset = registry.read(pickled(folder, value))
    assert taken(dataset) == TAKEN
    assert not dataset.report.lines()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (LISTS[1:], "29 lists without ids, and there are 30 users"),
        (["1", "2"], "must hold a list of lists"),
        (7, "must hold a list of lists"),
        ([[f"X{item}" for item in items] for items in LISTS], "150 of 150 ids of items are not in"),
    ],
)
def test_a_pickle_of_something_else_is_refused(folder: Path, value: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        registry.read(pickled(folder, value))


def test_a_list_that_a_pickle_holds_many_times_over_is_refused_before_it_is_walked(folder: Path) -> None:
    items = ["1"] * 50_000
    with pytest.raises(DataError, match="more than 5,000,000 interactions"):
        registry.read(pickled(folder, [items] * 1_000))


def test_ids_of_a_pickle_that_may_be_internal_or_public_are_refused(tmp_path: Path) -> None:
    files = good()
    files["id2item"] = {i: str(41 - int(i)) for i in files["id2item"]}
    files["side"] = {}
    folder = write(tmp_path / "d", files)
    with pytest.raises(DataError, match="may be internal or public ones"):
        registry.read(pickled(folder, LISTS))


def test_a_list_that_is_none_is_the_fault_of_its_user(folder: Path) -> None:
    dataset = registry.read(pickled(folder, [None, *LISTS[1:]]))
    assert taken(dataset) == {**TAKEN, "U1": []}
    assert counted(dataset) == ["left out 1 lists: they are no list of items"]


@pytest.mark.parametrize("value", [LISTS, PUBLIC, TAKEN, [[*items, items[0], "99"] for items in LISTS]])
def test_a_pickle_beside_the_lines_that_says_the_same_changes_nothing(folder: Path, value: object) -> None:
    dataset = registry.read(pickled(folder, value, alone=False))
    assert taken(dataset) == TAKEN
    assert not dataset.report.lines()


def test_where_a_pickle_says_something_else_of_a_few_users_the_lines_count(folder: Path) -> None:
    dataset = registry.read(pickled(folder, [["1"], *LISTS[1:]], alone=False))
    assert taken(dataset) == TAKEN
    assert counted(dataset) == [
        "left out 1 pickled histories: they are not those of sequential.txt, which count"
    ]


@pytest.mark.parametrize(
    ("value", "message"),
    [(LISTS[::-1], "disagree about 30 of 30 users"), (LISTS[1:], "29 lists without ids")],
)
def test_a_pickle_of_other_data_beside_the_lines_is_refused(
    folder: Path, value: object, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        registry.read(pickled(folder, value, alone=False))


NEGATIVES = {user: [f"I{(int(user) * 3 + n) % 40 + 1}" for n in range(4)] for user in HISTORIES}
INTERNAL = {user: [item[1:] for item in items] for user, items in NEGATIVES.items()}


def as_lines(lists: dict[str, list[str]], separator: str = " ", prefix: str = "") -> bytes:
    return "".join(separator.join([prefix + user, *items]) + "\n" for user, items in lists.items()).encode()


@pytest.mark.parametrize(
    ("ending", "content"),
    [
        (".txt", as_lines(NEGATIVES, prefix="U")),
        (".txt", as_lines(NEGATIVES)),
        (".txt", as_lines(INTERNAL)),
        (".csv", as_lines(NEGATIVES, ",")),
        (".tsv", as_lines(NEGATIVES, "\t")),
        (".json", json.dumps(NEGATIVES).encode()),
        (".json", json.dumps(list(NEGATIVES.values())).encode()),
        (".json", json.dumps([[user, *items] for user, items in NEGATIVES.items()]).encode()),
        (".pkl", pickle.dumps({int(user): list(map(int, items)) for user, items in INTERNAL.items()})),
    ],
)
def test_negatives_are_read_in_every_form(folder: Path, ending: str, content: bytes) -> None:
    (folder / f"negative_samples{ending}").write_bytes(content)
    dataset = registry.read(folder)
    assert negatives(dataset) == {f"U{user}": items for user, items in NEGATIVES.items()}
    assert not [line for label, line in dataset.report.lines() if label == "left out"]


def test_unknown_users_and_items_of_negatives_are_left_out(folder: Path) -> None:
    content = as_lines(NEGATIVES, prefix="U") + b"U1 I5\nU99 I1 I2\nU2"
    (folder / "negative_samples.txt").write_bytes(content.replace(b"U3 ", b"U3 I99 "))
    dataset = registry.read(folder)
    assert negatives(dataset) == {f"U{user}": items for user, items in NEGATIVES.items()}
    assert counted(dataset) == [
        "left out 1 negatives: datamaps.json lacks their item",
        "left out 2 lists of negatives: their user has a list already",
        "left out 1 lists of negatives: their user has no history",
    ]


def test_a_file_of_negatives_that_is_empty_is_none(folder: Path) -> None:
    (folder / "negative_samples.txt").touch()
    assert registry.read(folder).negatives is None
