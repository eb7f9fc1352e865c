"""Reads a folder of RecBole's atomic files (Zhao et al., CIKM 2021).

    x.inter   tab-separated, names with types: user_id:token, item_id:token, timestamp:float, …
    x.item    optional: item_id:token, a title, categories (token_seq), …
    pictures  optional: named by a column of x.item, or after the items' ids

Other files (x.user, x.link, …) and other columns (ratings) are not read.
"""

from __future__ import annotations

import logging
from pathlib import Path

from models.data.dataset import Dataset
from models.data.pictures import find_pictures
from models.data.report import ReadingReport
from models.data.tables.shop import ShopFiles, read_shop
from models.errors import DataError

log = logging.getLogger(__name__)

INTERACTIONS, ITEMS = ".inter", ".item"


def recognises(folder: Path) -> bool:
    """Returns whether the folder has this layout."""
    return bool(_files(folder, INTERACTIONS))


def read(folder: Path, name: str | None, pictures: Path | None, report: ReadingReport) -> Dataset:
    """Reads the folder.

    Args:
        folder: folder with one ``.inter`` and at most one ``.item`` file.
        name: name of the data set; that of the ``.inter`` file by default.
        pictures: folder of pictures, where it is not in one of the usual places (see ``find_pictures``).
        report: report that what is left out or changed is counted in.

    Raises:
        DataError: there are several such files, or one cannot be read.
    """
    interactions, items = _files(folder, INTERACTIONS), _files(folder, ITEMS)
    if len(interactions) > 1 or len(items) > 1:
        names = ", ".join(path.name for path in (*interactions, *items))
        raise DataError(f"{folder} must hold one .inter file and at most one .item file, and has {names}")
    name = name or interactions[0].stem.lower()
    found = find_pictures(folder, name, pictures)
    shop = read_shop(ShopFiles(interactions[0], items[0] if items else None, found), name, report)
    for line in shop.columns:
        log.info("columns of %s", line)
    return shop.dataset


def _files(folder: Path, ending: str) -> list[Path]:
    return sorted(path for path in folder.glob(f"*{ending}") if path.is_file())
