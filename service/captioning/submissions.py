"""Batches that are with a provider, on the disk before and after they are handed in."""

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
    """One batch.

    Attributes:
        items: what each request is about, by number: the id of an item.
        token: with which every request's name begins.
        at: seconds since the epoch, just before it was handed in.
        batches: the provider's ids for it; none while nobody knows whether it arrived, several while it may
            be any of them.
    """

    items: tuple[str, ...]
    token: str = field(default_factory=lambda: uuid.uuid4().hex[:16])
    at: float = field(default_factory=time.time)
    batches: tuple[str, ...] = ()

    def name(self, number: int) -> str:
        """Of a request."""
        return f"{self.token}-{number}"

    def item(self, name: str) -> str | None:
        """What a result of that name is about; None if it is none of ours."""
        token, _, number = name.rpartition("-")
        ours = token == self.token and number.isdecimal() and int(number) < len(self.items)
        return self.items[int(number)] if ours else None


class Submissions:
    """All of one captioner's, kept until their results are written.

    Raises:
        BundleError: the file is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._open = {each.token: each for each in _read(path)}

    def __iter__(self) -> Iterator[Submission]:
        return iter(list(self._open.values()))

    def __len__(self) -> int:
        return len(self._open)

    def keep(self, submission: Submission) -> None:
        """Write it down; it is on the disk afterwards."""
        self._open[submission.token] = submission
        self._write()

    def forget(self, submission: Submission) -> None:
        """Its results are written, or it never was."""
        del self._open[submission.token]
        self._write()

    def _write(self) -> None:
        if not self._open:
            self.path.unlink(missing_ok=True)
            return
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
