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
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch

from models.atomic import new_file, write_text
from models.contracts import ITEM_VECTORS, USER_VECTORS, sha256_of
from models.errors import ModelsError
from models.networks.config import Config, LearningConfig
from models.saved_arrays import Floats, read_matrix, save_matrix
from models.training.config import ConfigError, from_json
from models.training.outcome import is_outcome
from models.training.progress import TrainingProgress

CONFIG = "config.json"
CHECKPOINT = "checkpoint.pt"
BEST = "best.pt"
RESULT = "result.json"

Part = Literal["training", "training and validation"]
"""Interactions that a run is trained on."""

TRAINING: Part = "training"
REFIT: Part = "training and validation"


class RunError(ModelsError):
    """A run folder holds another run, or what is asked of it is missing or damaged."""


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
        part: interactions that are trained on.
    """

    model: str
    kind: Literal["data", "bundle"]
    folder: str
    photos: str | None
    dataset: str
    fingerprint: str
    part: Part = TRAINING

    def is_whole(self) -> bool:
        """Returns whether the fields are what they should be; a damaged file may hold anything."""
        texts = (self.model, self.kind, self.folder, self.photos or "", self.dataset, self.fingerprint)
        if not all(isinstance(text, str) for text in texts) or self.kind not in ("data", "bundle"):
            return False
        return self.part in get_args(Part)


@dataclass(frozen=True)
class Run:
    """Reads and writes the files of one run.

    Between two calls of one training only ``training.epochs`` and ``training.patience`` may change, and only
    so that the training goes on: every epoch depends on the ones before it alone, so a run that was given
    more epochs later ends as one that had them from the beginning. A folder without weights binds nothing.
    """

    folder: Path

    def check(self, config: Config, origin: Origin) -> None:
        """Checks that a training with this configuration and these data may go into the folder.

        Raises:
            RunError: another run is in it, or one that would have ended earlier with these settings.
        """
        if not self._has_weights():
            return
        self.origin()  # a damaged one is not that of another run
        if not _same(self._record(), config, origin):
            raise RunError(
                f"{self.folder} holds a run with another configuration or other data (items, histories, "
                "captions or pictures), or one of an older version: give this one another --name, or "
                "delete that folder"
            )
        if isinstance(config.training, LearningConfig) and config.training != self.config().training:
            progress = self.restore()
            if progress is not None and progress[1].last_epoch(config.training) < progress[1].epoch:
                raise RunError(
                    f"{self.folder} was trained for {progress[1].epoch} epochs, and with these settings it "
                    f"ends after {progress[1].last_epoch(config.training)}: give this one another --name"
                )

    def start(self, config: Config, origin: Origin) -> None:
        """Makes the folder for a new run, or joins the run that is in it already.

        Raises:
            RunError: as ``check``.
        """
        self.check(config, origin)
        # Written again for a run that is joined: it holds the present path of the data.
        self.folder.mkdir(parents=True, exist_ok=True)
        record = {"config": config.to_json(), "origin": asdict(origin)}
        write_text(self.folder / CONFIG, json.dumps(record, indent=2) + "\n")

    def discard_untrained(self) -> None:
        """Removes the configuration of a run that has no weights, so that a refused start leaves nothing."""
        if not self._has_weights():
            (self.folder / CONFIG).unlink(missing_ok=True)

    def config(self) -> Config:
        """Reads the configuration.

        Raises:
            RunError: there is no run in the folder, or its configuration is damaged.
            ConfigError: it was made by another version.
        """
        return from_json(self._record()["config"], str(self.folder / CONFIG))

    def origin(self) -> Origin:
        """Reads what the run was trained on.

        Raises:
            RunError: there is no run in the folder, or its configuration is damaged.
        """
        try:
            origin = Origin(**self._record()["origin"])
        except TypeError:
            origin = None
        if origin is None or not origin.is_whole():
            raise RunError(self._damaged(CONFIG, f"delete {self.folder} and train again"))
        return origin

    def save(self, state: dict[str, Any], progress: TrainingProgress) -> None:
        """Saves a checkpoint: the state of weights and optimiser, and the progress.

        Raises:
            WriteError: a file cannot be written; the checkpoint before is kept.
        """
        # The log first: an epoch that is in the checkpoint is not trained again, and would be missing there.
        write_text(self.folder / "log.jsonl", "".join(json.dumps(line) + "\n" for line in progress.log))
        # One file for weights and progress: no crash can leave one without the other.
        record = {**state, "progress": asdict(progress), "run": self._record()}
        save_tensors(self.folder / CHECKPOINT, record)

    def restore(self) -> tuple[dict[str, Any], TrainingProgress] | None:
        """Reads the last checkpoint, to the CPU; None before the first.

        Raises:
            RunError: it is damaged.
        """
        path = self.folder / CHECKPOINT
        if not path.exists():
            return None
        try:
            state = _tensors(path)
            progress, of = TrainingProgress(**state.pop("progress")), state.pop("run", None)
            whole = {"weights", "optimiser"} == state.keys() and progress.is_whole()
        except (ValueError, TypeError, KeyError):
            whole = False
        if not whole:
            raise RunError(self._damaged(CHECKPOINT, self.begin_again))
        # An older version wrote none.
        own = of is None or (_is_record(of) and _same(of, self.config(), self.origin()))
        if not own:
            raise RunError(f"{path} is of another run: {self.begin_again}")
        return state, progress

    def save_best(self, weights: dict[str, Any]) -> None:
        """Saves the weights of the best epoch so far.

        Raises:
            WriteError: the file cannot be written; the weights before are kept.
        """
        save_tensors(self.folder / BEST, weights)

    def best(self) -> dict[str, Any]:
        """Reads the weights of the best epoch, to the CPU.

        Raises:
            RunError: no epoch was completed, or the file is damaged.
        """
        path = self.folder / BEST
        advice = f"delete {self.folder} and call the same train again"
        if not path.exists():
            if self._has_weights():
                raise RunError(f"{path} is missing: {advice}")
            raise RunError(f"{self.folder} has no trained weights: run `python -m models train` to its end")
        try:
            weights = _tensors(path)
            _require_own(self, BEST)
        except ValueError as error:
            raise RunError(self._damaged(BEST, advice)) from error
        return weights

    def finish(
        self, result: dict[str, Any], item_vectors: Floats, user_vectors: Floats | None
    ) -> dict[str, Any]:
        """Saves the outcome. ``result.json`` is written last: if it exists, all other files are complete.

        Args:
            result: metrics, epochs and times.
            item_vectors: vectors of the catalogue, float32 [items, d].
            user_vectors: vectors of all users of a graph family, float32 [users, d]; None for the others.

        Returns:
            The result as it was saved, with the hashes of the other files.

        Raises:
            WriteError: a file cannot be written.
        """
        names = [BEST, ITEM_VECTORS]
        save_matrix(self.folder / ITEM_VECTORS, item_vectors)
        if user_vectors is not None:
            save_matrix(self.folder / USER_VECTORS, user_vectors)
            names.append(USER_VECTORS)
        # Another run's file of the same shape would not be noticed otherwise.
        result = {**result, "sha256": {name: sha256_of(self.folder / name) for name in names}}
        self.write_result(result)
        return result

    def write_result(self, result: dict[str, Any]) -> None:
        """Writes the outcome, of a run whose other files are complete.

        Raises:
            WriteError: the file cannot be written.
        """
        write_text(self.folder / RESULT, json.dumps(result, indent=2) + "\n")

    def reopen(self) -> None:
        """Removes the outcome, before further epochs make it one of other weights."""
        (self.folder / RESULT).unlink(missing_ok=True)

    def result(self) -> dict[str, Any] | None:
        """Reads the outcome; None while the training is unfinished.

        Raises:
            RunError: it is damaged.
        """
        path = self.folder / RESULT
        if not path.exists():
            return None
        try:
            result = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            result = None
        if not is_outcome(result):
            raise RunError(self._damaged(RESULT, "call the same `python -m models train` again"))
        return dict(result)

    def item_vectors(self, items: int | None = None) -> Floats:
        """Reads the vectors of the catalogue, float32 [items, d].

        Raises:
            RunError: the file is missing or damaged, or has another number of rows than ``items``.
        """
        return self._vectors(ITEM_VECTORS, items)

    def user_vectors(self, users: int | None = None) -> Floats:
        """Reads the vectors of the users of a graph family, float32 [users, d], in the data set's order.

        Raises:
            RunError: the file is missing or damaged, or has another number of rows than ``users``.
        """
        return self._vectors(USER_VECTORS, users)

    @property
    def begin_again(self) -> str:
        """What to do about a checkpoint that is of no use."""
        best = (
            ", though the best weights so far are whole in best.pt" if (self.folder / BEST).is_file() else ""
        )
        return f"delete it and call the same train again, which begins with the first epoch{best}"

    def _vectors(self, name: str, rows: int | None) -> Floats:
        try:
            vectors = read_matrix(self.folder / name, rows)
            if not np.isfinite(vectors).all():
                raise ValueError("it holds what is not a number")
            _require_own(self, name)
        except ValueError as error:
            raise RunError(
                f"{self.folder / name} is of no use ({error}): call the same `python -m models train` again, "
                "which makes it anew"
            ) from error
        return vectors

    def _has_weights(self) -> bool:
        return any((self.folder / name).exists() for name in (BEST, CHECKPOINT, RESULT))

    def _damaged(self, name: str, advice: str) -> str:
        return f"{self.folder / name} is damaged: {advice}"

    def _record(self) -> dict[str, Any]:
        path = self.folder / CONFIG
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            what = "has weights and no config.json" if self._has_weights() else "is not a run folder"
            raise RunError(
                f"{self.folder} {what} of `python -m models train`: give another one, or delete it"
            ) from error
        except (OSError, ValueError, RecursionError):
            record = None
        if not _is_record(record):
            raise RunError(self._damaged(CONFIG, f"delete {self.folder} and train again"))
        return dict(record)


def save_tensors(path: Path, state: dict[str, Any]) -> None:
    """Saves tensors under a temporary name, then renames the file.

    Raises:
        WriteError: the file cannot be written.
        BusyError: another process is writing it.
    """
    with new_file(path) as stream:
        try:
            torch.save(state, stream)
        except RuntimeError as error:
            # torch says that its position in the file is unexpected; what stopped the write comes before.
            if isinstance(error.__context__, OSError | KeyboardInterrupt):
                raise error.__context__ from None
            raise


def _tensors(path: Path) -> dict[str, Any]:
    """Reads what ``save_tensors`` wrote.

    Raises:
        ValueError: the file is damaged, or holds something else.
    """
    try:
        with zipfile.ZipFile(path) as archive:  # torch itself does not compare the checksums
            if (damaged := archive.testzip()) is not None:
                raise ValueError(f"{damaged} is damaged")
        # weights_only: a checkpoint is data, and cannot run code when it is read. To the CPU first: a full
        # GPU would look like a damaged file.
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file raises nearly anything
        raise ValueError(str(error)) from error
    if not isinstance(state, dict):
        raise ValueError(f"a {type(state).__name__} in place of a table of tensors")
    return dict(state)


def _require_own(run: Run, name: str) -> None:
    """Compares a file with the hash in the outcome; a run without an outcome, or an older one, has none.

    Raises:
        ValueError: it is another file.
    """
    try:
        written = (run.result() or {}).get("sha256", {}).get(name)
    except RunError:
        return  # the outcome is damaged, and the last step is done again
    if written is not None and written != sha256_of(run.folder / name):
        raise ValueError("it is not the one that this run wrote")


def _is_record(record: Any) -> bool:
    parts = ("config", "origin")
    return isinstance(record, dict) and all(isinstance(record.get(part), dict) for part in parts)


def _same(record: Mapping[str, Any], config: Config, origin: Origin) -> bool:
    """Returns whether a run's record is of this configuration and these data."""
    try:
        before = from_json(record["config"], "the run")
    except ConfigError:  # of a version with other keys
        return False
    # The fingerprint is compared and not the path, since a data set may have been moved.
    own = (record["origin"].get("fingerprint"), record["origin"].get("part", TRAINING))
    return own == (origin.fingerprint, origin.part) and _bound(before) == _bound(config)


def _bound(config: Config) -> dict[str, Any]:
    """Returns what of a configuration may not change between the calls of one run."""
    record = config.to_json()
    limits = ("epochs", "patience")
    return {**record, "training": {k: v for k, v in record["training"].items() if k not in limits}}
