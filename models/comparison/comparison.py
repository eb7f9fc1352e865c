"""Goes through the rows of a table: trains what is missing, and ranks every test target once."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from models.comparison.contenders import Contender
from models.comparison.epoch_time import EpochTime, time_epoch
from models.comparison.stored_ranks import read_ranks, write_ranks
from models.comparison.targets import Ranks, Targets
from models.contracts import BundleError
from models.contracts.names import is_file_name
from models.contracts.one_writer import BusyError, one_writer
from models.data.dataset import Dataset
from models.errors import ModelsError
from models.features import item_features
from models.networks.config import Config, LearningConfig
from models.training.baselines import baselines
from models.training.config import ConfigError, load, path_of
from models.training.fingerprint import fingerprint
from models.training.loop import enough_memory
from models.training.progress import is_over
from models.training.run import Origin, Run, RunError
from models.training.scoring import scorer_for
from models.training.trained_run import trained_run

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Place:
    """Where things are.

    Attributes:
        data: folder of the data set.
        pictures: folder of its pictures, where one was named.
        runs: folder of runs.
        cache: folder of computed features.
    """

    data: Path
    pictures: Path | None
    runs: Path
    cache: Path


@dataclass(frozen=True, slots=True)
class Plan:
    """What is done for every row.

    Attributes:
        minutes: longest training of a model.
        settings: changes of every configuration, as ``--set`` takes them.
        device: device to compute on.
        timing: whether an epoch at the batch size of the paper's Table 2 is timed.
    """

    minutes: float
    settings: Sequence[str]
    device: torch.device
    timing: bool


@dataclass(frozen=True, slots=True)
class Measured:
    """What is known of one row.

    Attributes:
        contender: the row.
        ranks: ranks of the test targets by task; empty where it could not be measured.
        reason: why it could not.
        config: configuration of a trained row.
        result: result of its run.
        log: one record per epoch.
        epoch_time: seconds of an epoch at the batch size of Table 2, where they were measured.
    """

    contender: Contender
    ranks: Mapping[str, Ranks] = field(default_factory=dict)
    reason: str = ""
    config: Config | None = None
    result: Mapping[str, Any] = field(default_factory=dict)
    log: Sequence[Mapping[str, float]] = ()
    epoch_time: EpochTime | None = None


class AbsentError(ModelsError):
    """A row cannot be trained on these data."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Measures rows on one data set.

    Attributes:
        dataset: items and complete histories.
        targets: test part.
        place: folders.
        plan: what is done for every row.
    """

    dataset: Dataset
    targets: Targets
    place: Place
    plan: Plan

    def measure(self, contender: Contender) -> Measured:
        """Measures one row. Whatever goes wrong becomes its reason, so that the others go on."""
        if contender.absent:
            return Measured(contender, reason=contender.absent)
        if contender.configuration is None:
            baseline = baselines(self.dataset, contender.form)[contender.label]
            return Measured(contender, self.targets.rank_baseline(baseline, self.targets.tasks))
        try:
            with enough_memory():
                return self._trained(contender)
        except (ModelsError, BundleError, BusyError, OSError) as error:
            log.warning("%s has no figures: %s", contender.name, error)
            return Measured(contender, reason=str(error))
        except Exception as error:  # a defect of one model must not lose the hours of the others
            log.exception("%s has no figures", contender.name)
            return Measured(contender, reason=f"{type(error).__name__}: {error}")

    def _trained(self, contender: Contender) -> Measured:
        config = self._config(contender)
        run = self._run(contender)
        origin = Origin(
            model=contender.name,
            kind="data",
            folder=str(self.place.data.resolve()),
            photos=str(self.place.pictures.resolve()) if self.place.pictures else None,
            dataset=self.dataset.name,
            fingerprint=fingerprint(self.dataset, config),
        )
        with one_writer(run.folder):
            run.check(config, origin)
            result = _finished(run, config)
            ranks = {} if result is None else read_ranks(run, result, self.targets)
            missing = [task for task in self.targets.tasks if task not in ranks]
            if result is None or missing:
                network, result = trained_run(
                    run, config, origin, self.dataset, self.place.cache, self.plan.device
                )
                log.info("ranking the test part with %s", contender.name)
                ranks |= self.targets.rank(scorer_for(network), missing)
                del network
                result = write_ranks(run, result, self.targets, ranks)
            epoch_time = EpochTime.from_json(result.get("epoch_time"))
            if self.plan.timing and epoch_time is None:
                epoch_time = self._time(contender, config)
                if epoch_time is not None:
                    result = {**result, "epoch_time": epoch_time.to_json()}
                    run.write_result(result)
        return Measured(contender, ranks, "", config, result, _epochs(run), epoch_time)

    def _time(self, contender: Contender, config: Config) -> EpochTime | None:
        log.info("timing an epoch of %s at the batch size of Table 2", contender.name)
        features = item_features(self.dataset, config.features, config.modalities, self.place.cache)
        return time_epoch(config, self.dataset, features, self.plan.device)

    def _config(self, contender: Contender) -> Config:
        """Reads the configuration of a row, and limits what it reads of an item to what the data have."""
        assert contender.configuration is not None
        path, settings = path_of(contender.configuration), [*contender.settings, *self.plan.settings]
        config = load(path, settings, self.dataset.name)
        pictures = any(item.image for item in self.dataset.items)
        if "image" not in config.modalities or pictures:
            return config
        # A graph family does without one of its two modalities; MoRec and IISAN are named after them.
        if "text" in config.modalities and hasattr(getattr(config, "network", None), "modalities"):
            return load(path, [*settings, 'network.modalities=["text"]'], self.dataset.name)
        raise AbsentError("the data have no pictures")

    def _run(self, contender: Contender) -> Run:
        name = f"{self.dataset.name}-{contender.name}"
        if not is_file_name(name):
            raise ConfigError(f"{name[:80]!r} is no name of a folder in {self.place.runs}")
        return Run(self.place.runs / name)


def _finished(run: Run, config: Config) -> dict[str, Any] | None:
    """Reads the result of a run that ended by itself, or by its minutes; None for any other."""
    try:
        result = run.result()
    except RunError:
        return None  # a training does the last step again
    if result is None or not isinstance(config.training, LearningConfig):
        return result
    ended = result.get("ended_by") == "minutes"
    return result if ended or is_over(result["epochs"], result["best_epoch"], config.training) else None


def _epochs(run: Run) -> list[dict[str, float]]:
    """Reads one record per epoch; what is damaged is left out, since figures do not depend on it."""
    try:
        lines = (run.folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
        records = [json.loads(line) for line in lines]
    except (OSError, ValueError):
        return []
    return [record for record in records if isinstance(record, dict)]
