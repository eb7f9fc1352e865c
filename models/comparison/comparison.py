"""Goes through the rows of a table: trains what is missing, and ranks every test target once."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from models.comparison.contenders import Contender
from models.comparison.epoch_time import EpochTime, time_epoch
from models.comparison.stored_ranks import read_ranks, write_ranks
from models.comparison.targets import FULL, Ranks, Targets
from models.contracts import BundleError
from models.contracts.names import is_file_name
from models.contracts.one_writer import BusyError, one_writer
from models.data.dataset import Dataset
from models.errors import ModelsError
from models.features import Features, item_features
from models.networks.base import GraphNetwork, Network
from models.networks.config import Config, LearningConfig
from models.networks.registry import FAMILIES
from models.training.baselines import baselines
from models.training.config import ConfigError, load, path_of
from models.training.device import enough_memory
from models.training.fingerprint import fingerprint
from models.training.loop import trained_in
from models.training.progress import is_over
from models.training.refit import SUFFIX, planned, refit
from models.training.run import Origin, Run, RunError
from models.training.scoring import scorer_for
from models.training.test_log import log_test_evaluation

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
        minutes: longest training of a model, all calls together.
        settings: changes of every configuration, as ``--set`` takes them.
        device: device to compute on.
        timing: whether an epoch at the batch size of the paper's Table 2 is timed.
        refit: whether graph rows are trained anew on training and validation too; a refit that is there is
            printed in any case.
    """

    minutes: float
    settings: Sequence[str]
    device: torch.device
    timing: bool
    refit: bool


@dataclass(frozen=True, slots=True)
class Measured:
    """What is known of one row.

    Attributes:
        contender: the row.
        ranks: ranks of the test targets by task; empty where it could not be measured.
        reason: why it could not.
        config: configuration of a trained row.
        result: result of its run.
        epoch_time: seconds of an epoch at the batch size of Table 2, where they were measured.
    """

    contender: Contender
    ranks: Mapping[str, Ranks] = field(default_factory=dict)
    reason: str = ""
    config: Config | None = None
    result: Mapping[str, Any] = field(default_factory=dict)
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

    def measure(self, contender: Contender) -> list[Measured]:
        """Measures one row, and its refit where there is one or the plan wants one.

        Whatever goes wrong becomes the reason of a row without figures, so that the others go on.
        """
        if contender.absent:
            return [Measured(contender, reason=contender.absent)]
        if contender.configuration is None:
            baseline = baselines(self.dataset, contender.form)[contender.label]
            return [Measured(contender, self.targets.rank_baseline(baseline, self.targets.tasks))]
        found: list[Measured] = []
        try:
            found.append(self._trained(contender))
            again = self._refitted(found[0])
            return found if again is None else [*found, again]
        except (ModelsError, BundleError, BusyError, OSError) as error:
            log.warning("%s has no figures: %s", contender.name, error)
            reason = str(error)
        except Exception as error:  # a defect of one model must not lose the hours of the others
            log.exception("%s has no figures", contender.name)
            reason = f"{type(error).__name__}: {error}"
        return [*found, Measured(_refit_of(contender) if found else contender, reason=reason)]

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

        def network() -> tuple[Network, dict[str, Any]]:
            return trained_in(
                run, config, origin, self.dataset, self._features(config), self.plan.device, self.plan.minutes
            )

        with one_writer(run.folder), enough_memory(config):
            run.check(config, origin)  # refuses another run of this name before features are computed
            result, ranks = self._ranked(run, _finished(run, config, self.plan.minutes), network)
            epoch_time = EpochTime.from_json(result.get("epoch_time"))
            if self.plan.timing and epoch_time is None:
                log.info("timing an epoch of %s at the batch size of Table 2", contender.name)
                epoch_time = time_epoch(config, self.dataset, self._features(config), self.plan.device)
                if epoch_time is not None:
                    result = {**result, "epoch_time": epoch_time.to_json()}
                    run.write_result(result)
        return Measured(contender, ranks, "", config, result, epoch_time)

    def _refitted(self, line: Measured) -> Measured | None:
        """Measures the refit of a graph row: one that is there, or one that the plan wants."""
        assert line.config is not None
        run = self._run(line.contender)
        if not issubclass(FAMILIES[line.config.family], GraphNetwork):
            return None
        again, own, origin = planned(run)
        again.check(own, origin)  # the weights of another run of this name would be printed as this one's
        finished = _finished_refit(again, line.result)
        if finished is None and not self.plan.refit:
            return None
        config = line.config

        def network() -> tuple[Network, dict[str, Any]]:
            log.info("training %s anew on training and validation", line.contender.name)
            trained, _, result = refit(run, self.dataset, self._features(config), self.plan.device)
            return trained, result

        with one_writer(run.folder), enough_memory(config):
            result, ranks = self._ranked(again, finished, network)
        return Measured(_refit_of(line.contender), ranks, "", again.config(), result)

    def _ranked(
        self, run: Run, result: dict[str, Any] | None, network: Callable[[], tuple[Network, dict[str, Any]]]
    ) -> tuple[dict[str, Any], dict[str, Ranks]]:
        """Reads the ranks of a run's test targets, or makes those that it lacks.

        Args:
            run: folder of the run.
            result: result of the run; None where it is not finished.
            network: function that trains or reads the network, and returns its result too.
        """
        ranks = {} if result is None else read_ranks(run, result, self.targets)
        missing = [task for task in self.targets.tasks if task not in ranks]
        if result is not None and not missing:
            return result, ranks
        trained, result = network()
        log.info("ranking the test part with %s", run.folder.name)
        ranks |= self.targets.rank(scorer_for(trained), missing)
        for task in missing:
            if task != FULL:
                log_test_evaluation(run, f"table, {task}", self.targets.figures(ranks, task))
        return write_ranks(run, result, self.targets, ranks), ranks

    def _features(self, config: Config) -> dict[str, Features]:
        return item_features(self.dataset, config.features, config.modalities, self.place.cache)

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


def _refit_of(contender: Contender) -> Contender:
    return replace(contender, label=f"{contender.label}, refit", suffix=contender.suffix + SUFFIX, refit=True)


def _finished(run: Run, config: Config, minutes: float) -> dict[str, Any] | None:
    """Reads the result of a run that has no further epoch to train; None for any other."""
    try:
        result = run.result()
    except RunError:
        return None  # a training does the last step again
    if result is None or not isinstance(config.training, LearningConfig):
        return result
    late = result.get("training_seconds", 0.0) >= 60 * minutes
    return result if late or is_over(result["epochs"], result["best_epoch"], config.training) else None


def _finished_refit(run: Run, result: Mapping[str, Any]) -> dict[str, Any] | None:
    """Reads the result of a refit that has the epochs which its run chose; None for any other."""
    try:
        again = run.result()
    except RunError:
        return None
    return again if again is not None and again["epochs"] == result["best_epoch"] else None
