"""A run folder: all that is left of one training, and all that is needed to go on with it or to export it.

config.json        the configuration, and what it was trained on
log.jsonl          one line per epoch
checkpoint.pt      after the last complete epoch: weights, optimiser, progress
best.pt            the weights with the best validation N@5
result.json        when finished: metrics, epochs, seconds per epoch
item_vectors.npy   when finished: float32 [items, d], what the item tower makes of the catalogue
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from models.atomic import write_text
from models.config import Config, from_json
from models.errors import ModelsError


class RunError(ModelsError):
    """A run folder holds another run, or not what is asked of it."""


@dataclass(frozen=True)
class Origin:
    """What was trained on what.

    Attributes:
        model: the name of the configuration, for people and as the backbone's name.
        kind: ``data`` (a data set's folder) or ``bundle`` (a bundle's catalogue).
        folder: absolute path.
        photos: the folder of pictures, where it was named.
        dataset: its name.
        fingerprint: of the data that the configuration reads (``models.fingerprint``).
    """

    model: str
    kind: Literal["data", "bundle"]
    folder: str
    photos: str | None
    dataset: str
    fingerprint: str


@dataclass
class Progress:
    """How far a training has come.

    Attributes:
        epoch: complete epochs.
        best: the best validation N@5 so far.
        best_epoch: when that was, counted from 1.
        log: one record per epoch.
    """

    epoch: int = 0
    best: float = -1.0
    best_epoch: int = 0
    log: list[dict[str, float]] = field(default_factory=list)

    @property
    def seconds_per_epoch(self) -> float:
        """Mean wall time of training, without validation."""
        return sum(line["seconds"] for line in self.log) / max(1, len(self.log))


@dataclass(frozen=True)
class Run:
    """The files of one run."""

    folder: Path

    def start(self, config: Config, origin: Origin) -> None:
        """Claim the folder, or join the run that is in it already.

        Raises:
            RunError: another run is in it.
        """
        record = {"config": config.to_json(), "origin": asdict(origin)}
        path = self.folder / "config.json"
        if path.is_file():
            found = self._record()
            # A moved data set is the same data set: the fingerprint decides.
            same = found["config"] == json.loads(json.dumps(record["config"]))
            if not same or found["origin"].get("fingerprint") != origin.fingerprint:
                raise RunError(
                    f"{self.folder} holds a run with another configuration or other data (items, histories, "
                    "captions or pictures), or one of an older version: give this one another --name, or "
                    "delete that folder"
                )
        self.folder.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(record, indent=2) + "\n")

    def config(self) -> Config:
        """The configuration.

        Raises:
            RunError: there is no run in the folder.
            ConfigError: it was made by another version.
        """
        return from_json(self._record()["config"], str(self.folder / "config.json"))

    def origin(self) -> Origin:
        """What it was trained on.

        Raises:
            RunError: there is no run in the folder.
        """
        return Origin(**self._record()["origin"])

    def save(self, state: dict[str, Any], progress: Progress) -> None:
        """Keep a checkpoint: the state of weights and optimiser after ``progress``."""
        save_tensors(self.folder / "checkpoint.pt", {**state, "progress": asdict(progress)})
        write_text(self.folder / "log.jsonl", "".join(json.dumps(line) + "\n" for line in progress.log))

    def restore(self, device: torch.device) -> tuple[dict[str, Any], Progress] | None:
        """The last checkpoint; None before the first."""
        path = self.folder / "checkpoint.pt"
        if not path.is_file():
            return None
        state = torch.load(path, map_location=device, weights_only=True)
        return state, Progress(**state.pop("progress"))

    def save_best(self, weights: dict[str, Any]) -> None:
        """Keep the weights of the best epoch so far."""
        save_tensors(self.folder / "best.pt", weights)

    def best(self, device: torch.device) -> dict[str, Any]:
        """The weights of the best epoch.

        Raises:
            RunError: no epoch was completed.
        """
        path = self.folder / "best.pt"
        if not path.is_file():
            raise RunError(f"{self.folder} has no trained weights: run `python -m models train` to its end")
        weights: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
        return weights

    def finish(self, result: dict[str, Any], item_vectors: NDArray[np.float32]) -> None:
        """Keep the outcome. ``result.json`` comes last: where it is, all else is complete."""
        draft = self.folder / ".item_vectors.npy"
        np.save(draft, item_vectors)
        draft.replace(self.folder / "item_vectors.npy")
        write_text(self.folder / "result.json", json.dumps(result, indent=2) + "\n")

    def result(self) -> dict[str, Any] | None:
        """The outcome; None while unfinished."""
        path = self.folder / "result.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None

    def item_vectors(self) -> NDArray[np.float32]:
        """What the item tower made of the catalogue, float32 [items, d]."""
        vectors: NDArray[np.float32] = np.load(self.folder / "item_vectors.npy", allow_pickle=False)
        return vectors

    def _record(self) -> dict[str, Any]:
        path = self.folder / "config.json"
        try:
            record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise RunError(f"{self.folder} is not a run folder of `python -m models train`") from error
        return record


def save_tensors(path: Path, state: dict[str, Any]) -> None:
    """``torch.save`` under a temporary name, then a rename."""
    draft = path.with_name(f".{path.name}.new")
    torch.save(state, draft)
    draft.replace(path)
