"""Tests how tables of every format are read, and what becomes of records that are wrong."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import polars
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.data import packed, registry
from models.data.dataset import Dataset
from models.data.report import ReadingReport
from models.data.tables.delimited import _QUOTES
from models.data.tables.shop import ShopFiles, read_shop
from models.errors import DataError

START = 1_700_000_000
ORDERS = [
    {"user_id": f"u{user}", "item_id": f"{item:03}", "timestamp": START + 60 * ((7 * item) % 5)}
    for user in range(4)
    for item in range(user, user + 3)
]
"""Items of a user in another order than that of time."""


def csv_of(orders: list[dict[str, Any]] = ORDERS, delimiter: str = ",", end: str = "\n") -> str:
    lines = [list(orders[0]), *(order.values() for order in orders)]
    return end.join(delimiter.join(map(str, line)) for line in lines) + end


def parquet_of(path: Path, **columns: polars.Expr) -> None:
    polars.DataFrame(ORDERS).with_columns(**columns).write_parquet(path)


def read(
    orders: Path | str | bytes, products: str | None = None, folder: Path | None = None, **options: Any
) -> Dataset:
    """Reads tables that are given as files or, with a folder to write to, as text; bears any fault."""
    if not isinstance(orders, Path):
        assert folder is not None
        path = folder / "orders.csv"
        path.write_bytes(orders if isinstance(orders, bytes) else orders.encode())
        orders = path
    if products is not None:
        assert folder is not None
        (folder / "products.csv").write_text(products)
        options["items"] = folder / "products.csv"
    return read_shop(ShopFiles(orders, **options), report=ReadingReport(1.0)).dataset


def histories(dataset: Dataset) -> dict[str, list[str]]:
    return {
        user: [dataset.items[row].item_id for row in history]
        for user, history in zip(dataset.users, dataset.histories, strict=True)
    }


def counted(dataset: Dataset) -> dict[str, tuple[int, str]]:
    record = dataset.report.to_json()
    lines = record["left_out"] + record["skipped"] + record["changed"]
    return {line["reason"]: (line["number"], line["first"]) for line in lines}


def by_time() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for order in sorted(ORDERS, key=lambda order: (order["user_id"], order["timestamp"])):
        found.setdefault(str(order["user_id"]), []).append(str(order["item_id"]))
    return found


def test_a_packed_table_that_unpacks_to_far_more_than_texts_do_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packed, "UNPACKED_WITHOUT_DOUBT", 250_000)
    with pytest.raises(DataError, match="unpacks to more than 200 times its size"):
        read(gzip.compress(b"user,item\n" + b"a,b\n" * 99_000), folder=tmp_path)


@pytest.mark.parametrize(
    "write",
    [
        lambda path: path.write_text(csv_of()),
        lambda path: path.write_text(csv_of(delimiter="\t")),
        lambda path: path.write_text("sep=;\n" + csv_of(delimiter=";")),
        lambda path: path.write_text(csv_of(end="\r\n"), encoding="utf-8-sig", newline=""),
        lambda path: path.write_text(csv_of(), encoding="utf-16"),
        lambda path: path.write_bytes(gzip.compress(csv_of().encode())),
        lambda path: path.write_text("\n".join(map(json.dumps, ORDERS))),
        lambda path: path.write_text(json.dumps(ORDERS, indent=1)),
        lambda path: path.write_bytes(gzip.compress(json.dumps(ORDERS).encode())),
        parquet_of,
        lambda path: parquet_of(
            path,
            timestamp=polars.from_epoch("timestamp"),
            item_id=polars.col("item_id").cast(polars.Categorical),
        ),
        lambda path: parquet_of(
            path,
            timestamp=polars.col("timestamp").cast(polars.Decimal(20, 0)),
            user_id=polars.col("user_id").cast(polars.Binary),
        ),
        lambda path: path.write_text(
            csv_of(delimiter="\t").replace(
                "user_id\titem_id\ttimestamp", "user_id:token\titem_id:token\ttimestamp:float"
            )
        ),
    ],
    ids=[
        *("csv", "tsv", "semicolons", "bom", "utf16", "gz"),
        *("jsonl", "json", "json-gz", "parquet", "parquet-types", "parquet-other-types", "recbole"),
    ],
)
def test_every_format_gives_the_same_histories_whatever_the_file_is_called(
    write: Callable[[Path], object], tmp_path: Path
) -> None:
    write(tmp_path / "orders.dat")
    dataset = read(tmp_path / "orders.dat")
    assert histories(dataset) == by_time()
    assert counted(dataset) == {}


def test_recbole_s_folder_is_a_layout_of_data(tmp_path: Path) -> None:
    header = "user_id:token\titem_id:token\trating:float\n"
    (tmp_path / "ml.inter").write_text(header + "1\t7\t5\n1\t3\t1\n")
    (tmp_path / "ml.item").write_text(
        'item_id:token\tmovie_title:token_seq\tgenre:token_seq\n7\t"Fury" Road\tA\n3\tIt\tB\n'
    )
    dataset = registry.read(tmp_path)
    assert (dataset.name, histories(dataset)) == ("ml", {"1": ["7", "3"]})
    assert [item.title for item in dataset.items] == ['"Fury" Road', "It"]


def test_ids_are_texts_and_a_decimal_column_holds_whole_numbers(tmp_path: Path) -> None:
    orders = 'email,item\nanna@example.org,007\n"bob ""b"" 🙂",7\n'
    assert histories(read(orders, folder=tmp_path)) == {"anna@example.org": ["007"], 'bob "b" 🙂': ["7"]}
    dataset = read("user,item\n7.0,1\n8.0,2\n,1\n", "item,title\n1.0,a\n2.0,b\n", tmp_path)
    assert histories(dataset) == {"7": ["1"], "8": ["2"]}
    assert counted(dataset) == {
        "the user is missing": (1, "orders.csv, line 4"),
        "the user's id is a whole number written as a decimal one, such as 7.0: it is read as 7": (
            2,
            "orders.csv, line 2",
        ),
        "the item's id is a whole number written as a decimal one, such as 7.0: it is read as 7": (
            2,
            "products.csv, line 2",
        ),
    }


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("a", "the line has more or fewer fields than the first"),
        ("a,1,2", "the line has more or fewer fields than the first"),
        ('"a" b,"1", 2', _QUOTES),
        ("a,", "the item is missing"),
        ("NULL,1", "the user is missing"),
        (b"m\xfcller,1", "the text is not UTF-8 "),
        ("a\x00,1", "the id holds the control character U+0000"),
        ("a" * 300 + ",1", "the id has too many characters"),
    ],
)
def test_a_line_that_is_wrong_is_left_out_with_its_number(
    line: str | bytes, reason: str, tmp_path: Path
) -> None:
    odd = line if isinstance(line, bytes) else line.encode()
    dataset = read(b'user,item\n"x\ny",9\n\n' + odd + b"\nz,8\n", folder=tmp_path)
    assert {"x\ny", "z"} - set(dataset.users) == {"x\ny"}  # a line break is in no id, and the count goes on
    found = {why: first for why, (_, first) in counted(dataset).items() if why.startswith(reason)}
    assert list(found.values()) == ["orders.csv, line 5"]


def test_one_quote_too_many_costs_one_line_and_not_the_rest(tmp_path: Path) -> None:
    lines = "".join(f"u{n},{n}\n" for n in range(1000))
    dataset = read(f'user,item\n"u,1,\n{lines}', folder=tmp_path)
    assert len(dataset.users) == 1000
    dataset = read(f'user,item\n19" user,1\n"19" user,2\n{lines}', folder=tmp_path)
    assert list(histories(dataset))[:2] == ['19" user', '"19" user']


@pytest.mark.parametrize("head", ['{"a": 1', "[1]", '"text"', "[" * 5000])
def test_a_line_of_json_that_is_no_object_is_left_out(head: str, tmp_path: Path) -> None:
    dataset = read('{"user": 7, "item": "a"}\n' + head + '\n{"item": 7.0, "user": true}\n', folder=tmp_path)
    assert histories(dataset) == {"7": ["a"]}
    assert [first for _, first in counted(dataset).values()] == ["orders.csv, line 2", "orders.csv, line 3"]


@pytest.mark.parametrize(
    ("times", "order"),
    [
        (["1700000300", "1700000200000", "2023-11-14T22:16:00Z", "2023-11-14 22:15:00"], "dcba"),
        (["31.12.2023 10:00", "1.2.2023", "5.1.2023 9:00"], "cba"),
        (["12/31/2023", "2/1/2023 1:05 PM", "2/1/2023 12:10 AM"], "cba"),
        (["31/12/2023", "5/1/2023", "4/2/2023"], "bca"),
        (["2023-01-02", "2023-01-02", "2023-01-01"], "cab"),
        (["31.12.2023 25:10", "5.1.2023 9:60", "4.1.2023 24:00", "3.1.2023 23:59"], "d"),
    ],
)
def test_times_of_usual_notations_order_the_history(times: list[str], order: str, tmp_path: Path) -> None:
    rows = "".join(f"u,{item},{time}\n" for item, time in zip("abcd", times, strict=False))
    assert histories(read("user,item,date\n" + rows, folder=tmp_path)) == {"u": list(order)}


def test_dates_that_can_be_read_in_two_ways_are_asked_about(tmp_path: Path) -> None:
    orders = "user,item,date\nu,a,3/4/2023\nu,b,4/3/2023\n"
    with pytest.raises(DataError, match="--dates day-first or --dates month-first"):
        read(orders, folder=tmp_path)
    assert histories(read(orders, folder=tmp_path, day_first=True)) == {"u": ["b", "a"]}
    assert histories(read(orders, folder=tmp_path, day_first=False)) == {"u": ["a", "b"]}


def test_returns_and_unknown_products_are_no_interactions(tmp_path: Path) -> None:
    orders = (
        "customer,sku,qty,date\nu,a,1,\nu,a,1,soon\nu,b,-1,2023-01-01\nu,c,1,2023-01-02\nu,a,2,2023-01-03\n"
    )
    dataset = read(orders, "SKU,Name,Department\na,A & B,x > y\nnew,C,\n,D,\n", tmp_path)
    assert histories(dataset) == {"u": ["a"]}
    assert [(item.item_id, item.categories) for item in dataset.items] == [("a", ("x", "y")), ("new", ())]
    assert counted(dataset) == {
        "their quantity is not positive, as of a return": (1, "orders.csv, line 4"),
        "the time is missing, or in no usual notation, such as 'soon'": (2, "orders.csv, line 2"),
        "the id is missing": (1, "products.csv, line 4"),
        "products.csv has no such item": (1, "orders.csv, line 5"),
    }
    assert dataset.report.to_json()["read"] == {"interactions": 5, "items": 3, "users": 1}


@pytest.mark.parametrize("quantity", ["-1,00", "-1.234,5", "1-", "\u22122", "0,00", "-0.5", "0"])
def test_a_quantity_below_one_is_a_return_however_it_is_written(quantity: str, tmp_path: Path) -> None:
    rows = f"u;a;{quantity}\nu;b;1,00\nu;c;1.000,5\nu;d;some-\nu;e;\n"
    assert histories(read("user;item;qty\n" + rows, folder=tmp_path)) == {"u": list("bcde")}


def test_a_description_of_many_lines_and_characters_is_one_field(tmp_path: Path) -> None:
    products = 'item,title,body\na,A,"' + "<p>text, text</p>\n" * 20_000 + '"\nb,B,\n'
    dataset = read("user,item\nu,a\nu,b\n", products, tmp_path)
    assert [item.title for item in dataset.items] == ["A", "B"]
    assert counted(dataset) == {}


@pytest.mark.parametrize("written", ["SKU-Ä7", "sku-ä7", "sku-A\u03087", "0sku-ä7", "skuä7"])
def test_an_id_that_the_products_write_otherwise_is_named_beside_theirs(written: str, tmp_path: Path) -> None:
    dataset = read("user,item\nu,SKU-ä7\nu,b\n", f"item\n{written}\nb\n", tmp_path)
    (reason,) = counted(dataset)
    assert reason.startswith(f"products.csv writes their item otherwise, {written!r} for 'SKU-ä7'")


def test_columns_that_hold_no_ids_or_times_are_told_from_empty_ones(tmp_path: Path) -> None:
    rows = [{"user": "u", "item": [1], "time": 1}, {"user": "u", "item": "a", "time": "5/6/23"}]
    dataset = read(
        "\n".join(map(json.dumps, [*rows, {"user": "u", "item": "b", "time": 1}])), folder=tmp_path
    )
    assert list(counted(dataset)) == [
        "the item is missing, or a list or object, which is no id",
        "the time is missing, or in no usual notation, such as '5/6/23'",
    ]


def test_products_without_any_id_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no row with the id of a product"):
        read("user,item\nu,a\n", "item,title\n", tmp_path)


def test_a_parquet_file_of_more_rows_than_bytes_can_hold_is_refused(tmp_path: Path) -> None:
    rows = polars.select(user=polars.repeat("a", 2_000_000), item=polars.repeat("b", 2_000_000))
    rows.write_parquet(tmp_path / "orders.parquet")
    with pytest.raises(DataError, match="more than its size can hold"):
        read(tmp_path / "orders.parquet")


def test_a_table_is_a_file_and_no_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "orders.csv")
    with pytest.raises(DataError, match="is a pipe or a device"):
        read(tmp_path / "orders.csv")


def test_a_core_leaves_rare_users_and_items_out(tmp_path: Path) -> None:
    orders = "user,item\n" + "".join(f"{u},{i}\n" for u in "ab" for i in "xy") + "a,z\nc,x\n"
    dataset = read(orders, "item\nx\ny\nz\nnew\n", tmp_path, core=2)
    assert histories(dataset) == {"a": ["x", "y"], "b": ["x", "y"]}
    assert [item.item_id for item in dataset.items] == ["x", "y"]
    with pytest.raises(DataError, match="smaller --core"):
        read(orders, folder=tmp_path, core=9)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ('{\n "orders": []\n}', "no line at its beginning is an object"),
        ("user,item\n", "holds no row with a user and an item"),
        (
            "u1,i1,1700000000\nu2,i2,1700000001\n",
            "no line of column names, it seems: it begins with 'u1,i1,1",
        ),
        (
            "who,item\na,b\n",
            "no column of the usual names for the user: say which it is with --user-column; ",
        ),
        ("user,item,Item\na,b,c\n", "the columns 'item' and 'Item' could each be the item: .* --item-column"),
        (
            "user,item\na,b\n".encode("utf-16le"),
            "UTF-16 without its mark: .* iconv -f UTF-16LE|`iconv -f UTF-16LE",
        ),
        (b"PK\x03\x04...", "is an Excel workbook"),
        (b"\x1f\x8b\x08\x00", "cannot be read to its end"),
        (gzip.compress(b"user,item\n" + b"a,b\n" * 9, mtime=0)[:-9], "cannot be read to its end"),
        (b"\x28\xb5\x2f\xfd...", "is packed with zstd: unpack it"),
        (b"PAR1" + b"x" * 40, "is a damaged Parquet file"),
        ("<!DOCTYPE html><html>", "is a web page"),
        ('[{"user": 1, "item": 2}, {"user"', "row 2: the array is no JSON from here on"),
    ],
)
def test_what_is_no_table_is_refused_in_one_sentence(
    content: str | bytes, message: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=message) as refusal:
        read(content, folder=tmp_path)
    assert "\n" not in str(refusal.value)
    assert "orders.csv" in str(refusal.value)


@settings(max_examples=30)
@given(
    st.one_of(
        st.binary(max_size=300),
        st.sampled_from(
            (b"PAR1", b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd", b"[", b'{"user":', b"\xff\xfe", b"")
        ).flatmap(lambda start: st.binary(max_size=80).map(lambda rest: start + rest)),
        st.text('user,item;"\n\r\t\x00ü1.{}[]:', max_size=80).map(lambda text: f"user,item\n{text}".encode()),
    ),
    st.binary(max_size=80),
)
def test_whatever_the_bytes_are_they_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, orders: bytes, products: bytes
) -> None:
    folder = tmp_path_factory.mktemp("bytes", numbered=True)
    (folder / "orders.csv").write_bytes(orders)
    (folder / "products.csv").write_bytes(b"item\n" + products)
    for files in (
        ShopFiles(folder / "orders.csv"),
        ShopFiles(folder / "products.csv", folder / "orders.csv", columns={"user": "item"}),
    ):
        with suppress(DataError):
            read_shop(files, report=ReadingReport(1.0))
