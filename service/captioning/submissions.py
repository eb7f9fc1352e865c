"""Stores on the disk which batches are with a provider, before and after they are submitted."""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from models.contracts import BundleError


@dataclass(slots=True)
class Submission:
    """One batch of images; its fields are the names in the JSON file.

    Attributes:
        items: item ids, where request number n of the batch is about ``items[n]``.
        token: sixteen hexadecimal digits that begin the name of every request.
        at: time of the submission in seconds since the epoch, taken just before it is sent.
        batches: ids that the provider gave the batch; empty until the provider has confirmed it, several
            where more than one of its batches may be this one.
    """

    items: tuple[str, ...]
    token: str = field(default_factory=lambda: uuid.uuid4().hex[:16])
    at: float = field(default_factory=time.time)
    batches: tuple[str, ...] = ()

    def request_name(self, number: int) -> str:
        """Names the request with this number for the provider."""
        return f"{self.token}-{number}"

    def item_id(self, request_name: str) -> str | None:
        """Returns the item that a result is about; None if the request was not in this batch."""
        token, _, number = request_name.rpartition("-")
        ours = token == self.token and number.isdecimal() and int(number) < len(self.items)
        return self.items[int(number)] if ours else None


class Submissions:
    """All submissions of one captioner whose results have not been written yet.

    Args:
        path: JSON file that holds them; it does not exist while there are none.

    Attributes:
        path: JSON file.

    Raises:
        BundleError: the file is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._open = {each.token: each for each in _read(path)}

    def __iter__(self) -> Iterator[Submission]:
        return iter(list(self._open.values()))  # a copy, since callers save and remove while they iterate

    def __len__(self) -> int:
        return len(self._open)

    def save(self, submission: Submission) -> None:
        """Adds or updates a submission; it is on the disk when this returns."""
        self._open[submission.token] = submission
        self._write()

    def remove(self, submission: Submission) -> None:
        """Removes a submission whose results are written, or that certainly never arrived."""
        del self._open[submission.token]
        self._write()

    def _write(self) -> None:
        if not self._open:
            self.path.unlink(missing_ok=True)
            return
        # Written aside and renamed: a crash leaves the old file or the new one.
        draft = self.path.with_name(f"{self.path.name}.tmp")
        with draft.open("w", encoding="utf-8") as file:
            json.dump([asdict(each) for each in self._open.values()], file)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self.path)


def _read(path: Path) -> Sequence[Submission]:
    try:
        return [_submission(record) for record in json.loads(path.read_bytes())]
    except FileNotFoundError:
        return ()
    except (ValueError, TypeError, KeyError) as error:
        raise BundleError(
            f"{path} is damaged: it names batches that are with the provider; look there whether any are "
            "under way, then delete the file"
        ) from error


def _submission(record: Mapping[str, Any]) -> Submission:
    return Submission(
        items=tuple(record["items"]),
        token=record["token"],
        at=record["at"],
        batches=tuple(record["batches"]),
    )
