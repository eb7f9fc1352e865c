"""Stores one training in a folder, with all that is needed to go on with it or to export it.

config.json        the configuration, and what it was trained on
log.jsonl          one line per epoch
checkpoint.pt      after the last complete epoch: weights, optimiser, progress
best.pt            the weights of the epoch that is best on validation
result.json        when finished: metrics, epochs, seconds per epoch
item_vectors.npy   when finished: float32 [items, d], the vectors of the catalogue
user_vectors.npy   when finished, of a graph family: float32 [users, d], in the data set's order
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
from models.contracts import ITEM_VECTORS, USER_VECTORS
from models.errors import ModelsError
from models.networks.config import Config
from models.training.config import ConfigError, from_json

Floats = NDArray[np.float32]


class RunError(ModelsError):
    """A run folder holds another run, or lacks what is asked of it."""


@dataclass(frozen=True)
class Origin:
    """Configuration and data of a run.

    Attributes:
        model: name of the configuration, and of the backbone unless export names another.
        kind: ``data`` (a data set's folder) or ``bundle`` (a bundle's catalogue).
        folder: absolute path of the data set or the bundle.
        photos: folder of pictures; None where it was not named.
        dataset: name of the data set.
        fingerprint: hash of the data that the configuration reads (``models.training.fingerprint``).
    """

    model: str
    kind: Literal["data", "bundle"]
    folder: str
    photos: str | None
    dataset: str
    fingerprint: str


@dataclass
class TrainingProgress:
    """How far a training has come.

    Attributes:
        epoch: number of complete epochs.
        best: best validation so far, N@5 over candidates or else N@10 over the catalogue, a share of one; -1
            before the first epoch.
        best_epoch: number of the epoch with the best validation, from 1; 0 before the first.
        log: one record per epoch: its number, loss, seconds and validation metrics.
    """

    epoch: int = 0
    best: float = -1.0
    best_epoch: int = 0
    log: list[dict[str, float]] = field(default_factory=list)

    @property
    def seconds_per_epoch(self) -> float:
        """Mean wall time of an epoch in seconds, without validation."""
        return sum(line["seconds"] for line in self.log) / max(1, len(self.log))


@dataclass(frozen=True)
class Run:
    """Reads and writes the files of one run."""

    folder: Path

    def start(self, config: Config, origin: Origin) -> None:
        """Makes the folder for a new run, or joins the run that is in it already.

        Raises:
            RunError: another run is in it.
        """
        record = {"config": config.to_json(), "origin": asdict(origin)}
        path = self.folder / "config.json"
        if path.is_file():
            # The fingerprint is compared and not the path, since a data set may have been moved.
            found = self._record()["origin"].get("fingerprint")
            if found != origin.fingerprint or not self._has(config):
                raise RunError(
                    f"{self.folder} holds a run with another configuration or other data (items, histories, "
                    "captions or pictures), or one of an older version: give this one another --name, or "
                    "delete that folder"
                )
        # Written again for a run that is joined: it holds the present path of the data.
        self.folder.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(record, indent=2) + "\n")

    def _has(self, config: Config) -> bool:
        """Returns whether the run has this configuration, also if it is from before families had names."""
        try:
            return self.config() == config
        except ConfigError:  # of a version with other keys
            return False

    def config(self) -> Config:
        """Reads the configuration.

        Raises:
            RunError: there is no run in the folder.
            ConfigError: it was made by another version.
        """
        return from_json(self._record()["config"], str(self.folder / "config.json"))

    def origin(self) -> Origin:
        """Reads what the run was trained on.

        Raises:
            RunError: there is no run in the folder.
        """
        return Origin(**self._record()["origin"])

    def save(self, state: dict[str, Any], progress: TrainingProgress) -> None:
        """Saves a checkpoint: the state of weights and optimiser, and the progress."""
        # One file for weights and progress: no crash can leave one without the other.
        save_tensors(self.folder / "checkpoint.pt", {**state, "progress": asdict(progress)})
        write_text(self.folder / "log.jsonl", "".join(json.dumps(line) + "\n" for line in progress.log))

    def restore(self, device: torch.device) -> tuple[dict[str, Any], TrainingProgress] | None:
        """Reads the last checkpoint; None before the first."""
        path = self.folder / "checkpoint.pt"
        if not path.is_file():
            return None
        # weights_only: a checkpoint is data, and cannot run code when it is read.
        state = torch.load(path, map_location=device, weights_only=True)
        return state, TrainingProgress(**state.pop("progress"))

    def save_best(self, weights: dict[str, Any]) -> None:
        """Saves the weights of the best epoch so far."""
        save_tensors(self.folder / "best.pt", weights)

    def best(self, device: torch.device) -> dict[str, Any]:
        """Reads the weights of the best epoch.

        Raises:
            RunError: no epoch was completed.
        """
        path = self.folder / "best.pt"
        if not path.is_file():
            raise RunError(f"{self.folder} has no trained weights: run `python -m models train` to its end")
        weights: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
        return weights

    def finish(self, result: dict[str, Any], item_vectors: Floats, user_vectors: Floats | None) -> None:
        """Saves the outcome. ``result.json`` is written last: if it exists, all other files are complete.

        Args:
            result: metrics, epochs and times.
            item_vectors: vectors of the catalogue, float32 [items, d].
            user_vectors: vectors of all users of a graph family, float32 [users, d]; None for the others.
        """
        _save_array(self.folder / ITEM_VECTORS, item_vectors)
        if user_vectors is not None:
            _save_array(self.folder / USER_VECTORS, user_vectors)
        self.write_result(result)

    def write_result(self, result: dict[str, Any]) -> None:
        """Writes the outcome, of a run whose other files are complete."""
        write_text(self.folder / "result.json", json.dumps(result, indent=2) + "\n")

    def result(self) -> dict[str, Any] | None:
        """Reads the outcome; None while the training is unfinished."""
        path = self.folder / "result.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None

    def item_vectors(self) -> Floats:
        """Reads the vectors of the catalogue, float32 [items, d]."""
        vectors: Floats = np.load(self.folder / ITEM_VECTORS, allow_pickle=False)
        return vectors

    def user_vectors(self) -> Floats:
        """Reads the vectors of the users of a graph family, float32 [users, d], in the data set's order."""
        vectors: Floats = np.load(self.folder / USER_VECTORS, allow_pickle=False)
        return vectors

    def _record(self) -> dict[str, Any]:
        path = self.folder / "config.json"
        try:
            record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise RunError(f"{self.folder} is not a run folder of `python -m models train`") from error
        return record


def _save_array(path: Path, values: Floats) -> None:
    draft = path.with_name(f".{path.name}")
    np.save(draft, values)  # the name ends in .npy, so numpy appends nothing
    draft.replace(path)


def save_tensors(path: Path, state: dict[str, Any]) -> None:
    """Saves tensors under a temporary name, then renames the file."""
    draft = path.with_name(f".{path.name}.new")
    torch.save(state, draft)
    draft.replace(path)
