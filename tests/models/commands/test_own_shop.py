"""Tests the way of a shop's own tables to a bundle, and on to a recommendation."""

from __future__ import annotations

import csv
import random
from pathlib import Path

import httpx
import pytest
from PIL import Image
from service_process import start_service

from models.__main__ import main
from models.bundle.catalogue import read_catalogue
from models.data.dataset import Dataset
from models.data.registry import LAYOUTS
from models.data.tables.columns import ROLES

README = Path(__file__).parents[3] / "models" / "data" / "README.md"


def write_shop(folder: Path, users: int, items: int, orders: int, pictures: int) -> Path:
    """Writes a shop as its owner has it: e-mail addresses, quotes, commas, emoji, pictures in a folder."""
    draw = random.Random(1)
    (folder / "photos").mkdir(parents=True)
    with (folder / "products.csv").open("w", encoding="utf-8", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(("SKU", "Product Name", "Category", "Image"))
        rows.writerows(
            (f"{n:05}", f'Mug "no. {n}", blue 🙂', "Home > Mugs", f"https://cdn.example.com/{n:05}.jpg?v=2")
            for n in range(items)
        )
    for n in range(pictures):
        Image.new("RGB", (64, 64), (n % 256, 100, 7 * n % 256)).save(folder / "photos" / f"{n:05}.jpg")
    with (folder / "orders.csv").open("w", encoding="utf-8", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(("Order ID", "Customer Email", "SKU", "Quantity", "Created At"))
        for n in range(orders):
            day = f"2024-{1 + n * 12 // orders:02}-{1 + n % 28:02} 10:00:00"
            rows.writerow((n, f"c+{n % users}@example.org", f"{draw.randrange(items):05}", 1, day))
    return folder


def data(*options: object) -> int:
    return main(["data", *map(str, options)])


def of_shop(shop: Path, *options: object) -> int:
    tables = ("--interactions", shop / "orders.csv", "--items", shop / "products.csv")
    return data(*tables, "--pictures", shop / "photos", *options)


def test_a_shop_of_sixty_orders_becomes_a_bundle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shop = write_shop(tmp_path / "shop", users=12, items=8, orders=60, pictures=6)
    with (shop / "orders.csv").open("a") as stream:
        stream.write("torn,line\n")
    assert of_shop(shop, "--bundle", tmp_path / "bundles" / "shop", "--name", "mugs") == 0
    written = read_catalogue(tmp_path / "bundles" / "shop")
    assert (written.name, len(written.users), len(written.items)) == ("mugs", 12, 8)
    assert written.users[0] == "c+0@example.org"
    assert written.items[1].title == 'Mug "no. 1", blue 🙂'
    assert written.items[1].categories == ("Home", "Mugs")
    assert sum(item.image is not None for item in written.items) == 6
    shown = capsys.readouterr().out
    assert "orders.csv: user = Customer Email (guessed), item = SKU (guessed), time = Created At" in shown
    assert "products.csv: item = SKU (guessed), title = Product Name (guessed)" in shown
    assert "left out      interactions: the line has more or fewer fields than the first" in shown
    assert "(1: orders.csv, line 62)" in shown
    assert "changed       items: their picture is an address of the web and not in the folder" in shown


@pytest.mark.parametrize(
    ("names", "expected"),
    [({"B001.jpg", "b2.png"}, ["B001.jpg", None]), ({"mug.webp", "B001.jpg"}, ["B001.jpg", "mug.webp"])],
)
def test_pictures_are_found_by_the_row_or_by_the_item_s_id(
    names: set[str], expected: list[str | None], tmp_path: Path
) -> None:
    for name in names:
        (tmp_path / "pictures").mkdir(exist_ok=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "pictures" / name)
    (tmp_path / "orders.csv").write_text("user,item\na,B001\na,B002\n")
    (tmp_path / "products.csv").write_text("item,photo\nB001,\nB002,mug.webp\n")
    tables = ("--interactions", tmp_path / "orders.csv", "--items", tmp_path / "products.csv")
    assert data(*tables, "--photos", tmp_path / "pictures", "--bundle", tmp_path / "b") == 0
    found: Dataset = read_catalogue(tmp_path / "b")
    assert [item.image for item in found.items] == expected


def test_columns_are_named_by_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    orders = tmp_path / "o.csv"
    orders.write_text("who,what,then\na,x,5\na,y,4\n")
    said = ("--user-column", "who", "--item-column", "What", "--time-column", "then")
    assert data("--interactions", orders, *said) == 0
    assert "o.csv: user = who, item = what, time = then\n" in capsys.readouterr().out
    assert data("--interactions", orders, *said[:4]) == 0
    assert "; no time: the order of the file" in capsys.readouterr().out
    assert data("--interactions", orders, "--user-column", "whom") == 2
    assert "no column 'whom', which --user-column names; there are 'who'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--interactions", "{t}/none.csv"), "none.csv is missing"),
        (("--interactions", "{t}"), "is a folder: name the file"),
        (("--interactions", "{t}/o.csv", "--items", "{t}/none.csv"), "none.csv is missing"),
        (("--interactions", "{t}/o.csv", "--pictures", "{t}/none"), "none is no folder"),
        (("--data", "{t}", "--items", "{t}/o.csv"), "--items goes with --interactions"),
        (("--data", "{t}", "--core", "2"), "--core goes with --interactions"),
        (("--interactions", "{t}/o.csv", "--bundle", "{t}/o.csv"), "is a file: --bundle names a folder"),
        (("--interactions", "{t}/o.csv", "--bundle", "{t}/o.csv/b"), "o.csv/b: Not a directory"),
    ],
)
def test_what_is_wrong_with_the_options_is_one_sentence(
    options: tuple[str, ...], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "o.csv").write_text("user,item\na,b\n")
    assert data(*(option.format(t=tmp_path) for option in options)) == 2
    shown = capsys.readouterr().err
    assert message in shown
    assert shown.count("\n") == 1


@pytest.mark.parametrize("options", [(), ("--data", ".", "--interactions", "o.csv"), ("--core", "0")])
def test_one_of_data_and_interactions_is_named(
    options: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        data(*options)
    assert stop.value.code == 2


def test_the_page_about_data_names_every_layout_and_option() -> None:
    page = README.read_text()
    assert [role for role in ROLES if f"--{role}-column" not in page] == []
    files = {word for layout in LAYOUTS for word in layout.looks_like.replace(",", "").split() if "." in word}
    assert [name for name in files if name.strip("();") not in page] == []


def test_training_says_what_to_do_without_pictures_and_without_a_bundle_to_export_to(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "orders.csv").write_text("user,item\n" + "".join(f"{u},{i}\n" for u in "abc" for i in "xyz"))
    assert data("--interactions", tmp_path / "orders.csv", "--bundle", tmp_path / "shop") == 0
    train = ["train", "--runs", str(tmp_path / "runs"), "--model", "morec-i"]
    assert main([*train, "--bundle", str(tmp_path / "shop"), "--export"]) == 2
    assert (
        "no item has a picture: train without image (tower.modalities or network.modalities), as --model "
        in capsys.readouterr().err
    )
    assert main([*train, "--data", str(tmp_path), "--export"]) == 2
    assert "--export adds to the bundle that --bundle names" in capsys.readouterr().err


@pytest.mark.slow
def test_three_commands_lead_from_a_shop_s_tables_to_a_recommendation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop, bundle = write_shop(tmp_path / "shop", 150, 500, 1200, 500), tmp_path / "bundles" / "shop"
    monkeypatch.chdir(tmp_path)  # where `runs` goes
    assert of_shop(shop, "--bundle", bundle) == 0
    small = ("--set", "training.epochs=2", "--set", "network.dimension=32")
    assert main(["train", "--bundle", str(bundle), "--model", "morec-ti", "--export", *small]) == 0
    with start_service(bundle) as service:
        asked = {"user_id": "c+7@example.org", "k": 5}
        answer = httpx.post(f"{service.url}/recommend?strategy=s3", json=asked, timeout=30).json()
        history = httpx.get(f"{service.url}/users/c%2B7%40example.org/history", timeout=30).json()
    assert answer["backbone"]["name"] == "morec-ti"
    assert len(answer["items"]) == 5
    assert all(item["title"].startswith('Mug "no. ') for item in answer["items"])
    assert len(history["items"]) == 8
