"""Reads J. McAuley's Amazon reviews as he publishes them (He & McAuley, WWW 2016, and later collections).

    reviews_X_5.json.gz or reviews_X.json.gz   2014: one review a line: reviewerID, asin, unixReviewTime, …
    X_5.json.gz or X.json.gz                   2018: the same fields
    X.jsonl.gz                                 2023: user_id, parent_asin, timestamp (milliseconds), …
    meta_X.json.gz or meta_X.jsonl.gz          one product a line: asin, title, categories, pictures, …
    photos/                                    optional: pictures named as at the end of their addresses

Each file may also be unpacked. The lines of the ``meta`` of 2014 are Python literals, not JSON: they are
parsed as literals and never evaluated.
"""

from __future__ import annotations

from pathlib import Path

from models.data.assemble import RawData, assemble
from models.data.dataset import Dataset
from models.data.mcauley.files import has_pair, the_pair
from models.data.mcauley.products import Products
from models.data.mcauley.records import Records
from models.data.mcauley.reviews import CORE, read_core
from models.data.pictures import PictureFolder, find_pictures
from models.data.report import ReadingReport
from models.errors import DataError


def recognises(folder: Path) -> bool:
    """Returns whether the folder has this layout."""
    return has_pair(folder)


def read(
    folder: Path,
    name: str | None = None,
    pictures: Path | None = None,
    report: ReadingReport | None = None,
) -> Dataset:
    """Reads the 5-core of a pair of files; histories are in order of time.

    Args:
        folder: folder with one pair of files.
        name: name of the data set; X of the file names in lower case by default.
        pictures: folder of pictures, where it is not in one of the usual places (see ``find_pictures``).
        report: report that what is left out or changed is counted in; None for one of its own.

    Raises:
        DataError: a file cannot be read to its end, too much was left out, or nothing is left of the data.
    """
    report = ReadingReport() if report is None else report
    pair = the_pair(folder)
    name = name or pair.name
    reviews, meta = Records(pair.reviews, "reviews", report), Records(pair.meta, "products", report)
    core = read_core(reviews, report)
    report.check()
    if not core.users:
        raise _nothing_left(pair.reviews)
    images = find_pictures(folder, name, pictures)
    products = Products(meta, core.items, PictureFolder(images), report)

    def item_place(row: int) -> str:
        line = products.line(row)
        return reviews.place(int(core.item_lines[row])) if line is None else meta.place(line)

    if missing := [row for row in range(len(core.items)) if products.line(row) is None]:
        if len(missing) == len(core.items) and products.others:
            report.check()
            raise DataError(
                f"{pair.meta} has none of the items of {pair.reviews.name}: one of the two files is of other "
                "data"
            )
        reason = f"they are not in {pair.meta.name} and have no title"
        report.change("items", reason, item_place(missing[0]), len(missing))
    dataset = assemble(
        RawData(
            name=name,
            items=products.items,
            users=core.users,
            offsets=core.offsets,
            item_rows=core.item_rows,
            item_place=item_place,
            user_place=lambda position: reviews.place(int(core.user_lines[position])),
            images=images,
        ),
        report,
    )
    if not dataset.histories:
        report.check()
        raise _nothing_left(pair.reviews)
    return dataset


def _nothing_left(reviews: Path) -> DataError:
    return DataError(
        f"{reviews}: no user and item have {CORE} reviews each, so nothing is left to learn from"
    )
