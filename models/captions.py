"""The caption files of a catalogue: ``captions/<captioner>.jsonl``, one ``Caption`` a line, append-only."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from dataclasses import asdict, fields
from pathlib import Path

from models.contracts import BundleError, Caption

log = logging.getLogger(__name__)

_FIELDS = tuple(field.name for field in fields(Caption))


def read_captions(path: Path) -> dict[str, Caption]:
    """The captions of a file by public item id; of several lines about one item the last counts.

    A last line that was cut off while it was written is left out with a warning: the item will be captioned
    again.

    Raises:
        BundleError: another line is not a caption.
    """
    lines = path.read_bytes().split(b"\n")
    torn = lines.pop()
    captions = {}
    for number, line in enumerate(lines, 1):
        if line.strip():
            caption = _parse(line, f"{path}, line {number}")
            captions[caption.item_id] = caption
    if torn.strip():
        try:
            caption = _parse(torn, f"{path}, last line")
            captions[caption.item_id] = caption
        except BundleError as error:
            log.warning("left out: %s", error)
    return captions


def write_captions(path: Path, captions: Iterable[Caption]) -> None:
    """Write a caption file, one line each, in the given order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="\n") as stream:
        for caption in captions:
            stream.write(json.dumps(asdict(caption), ensure_ascii=False) + "\n")


def _parse(line: bytes, where: str) -> Caption:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{where} is not JSON ({error}): remove the line") from error
    if not isinstance(record, dict) or not all(isinstance(record.get(key), str) for key in _FIELDS):
        raise BundleError(f"{where}: a caption has the texts {', '.join(_FIELDS)}: remove the line")
    return Caption(**{key: record[key] for key in _FIELDS})
