"""Makes small data sets, in memory and as files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from models.contracts import Item
from models.data.dataset import Dataset, Rows


def rows(*values: int) -> Rows:
    """Returns an array of item rows."""
    return np.array(values, dtype=np.int32)


def save_picture(path: Path, colour: tuple[int, int, int] = (200, 30, 30), form: str = "PNG") -> None:
    """Writes a picture of 8 × 8 pixels in one colour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), colour).save(path, format=form)


def small_dataset(images: Path | None = None, **changes: Any) -> Dataset:
    """Returns a data set of four items and three users; with a folder for images the first item has one."""
    if images is not None:
        save_picture(images / "a.png")
    return Dataset(
        **{
            "name": "small",
            "items": (
                Item(
                    "A",
                    title="Ein schöner Krug",
                    categories=("Home", "Mugs"),
                    image="a.png" if images else None,
                ),
                Item("B", title="Line\u2028separator \U0001f600"),
                Item("C", keywords="machine made words"),
                Item("D"),
            ),
            "users": ("u1", "ü2", "u3"),
            "histories": (rows(0, 1, 2, 3), rows(3, 2, 1), rows(2)),
            "images": images,
            "captions": {"gpt4o": {0: "A red square."}},
            **changes,
        }
    )


def write_amazon_plus(
    folder: Path, histories: Sequence[Sequence[str]], side: dict[str, Any] | None = None
) -> Path:
    """Writes a folder in the Amazon Review Plus layout, with users u1, u2, … and items P<internal id>."""
    folder.mkdir(parents=True, exist_ok=True)
    items = sorted({item for history in histories for item in history} | set(side or {}), key=int)
    maps = {
        "id2user": {str(n): f"u{n}" for n in range(1, len(histories) + 1)},
        "id2item": {item: f"P{item}" for item in items},
    }
    (folder / "datamaps.json").write_text(json.dumps(maps))
    (folder / "item2side.json").write_text(json.dumps(side or {}))
    lines = [" ".join([str(n), *history]) for n, history in enumerate(histories, 1)]
    (folder / "sequential.txt").write_text("\n".join(lines) + "\n")
    return folder
