"""Trains a network of any family, with an early stop on validation."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import torch

from models.data.dataset import Dataset
from models.errors import TrainingError
from models.evaluation import DrawnCandidates, leave_one_out
from models.features import Features
from models.networks.base import GraphNetwork, LearningNetwork, Network, TrainingData
from models.networks.config import Config, LearningConfig
from models.networks.registry import FAMILIES
from models.shown_progress import spoken
from models.training.device import describe
from models.training.epoch import is_finite, train_epoch
from models.training.progress import LAST, TrainingProgress, is_over
from models.training.run import BEST, CHECKPOINT, TRAINING, Origin, Part, Run, RunError
from models.training.scoring import GraphScorer, Scorer, Validation, metrics, scorer_for
from models.training.tensorboard import Scalars
from models.training.test_log import log_test_evaluation

log = logging.getLogger(__name__)


def build(
    config: Config, dataset: Dataset, features: Mapping[str, Features], part: Part = TRAINING
) -> Network:
    """Builds a network of the configuration's family, with random weights or, if it counts, with its counts.

    Args:
        config: family, sizes, modalities and seed.
        dataset: items and complete histories; the network sees ``part`` of them alone.
        features: frozen features of each modality but ``id``.
        part: histories to train on: the training part, or the validation items too.

    Raises:
        ValueError: the features of a modality are missing or have another number of rows.
    """
    torch.manual_seed(config.training.seed)
    tensors = {
        name: (torch.from_numpy(each.values), torch.from_numpy(each.present))
        for name, each in features.items()
    }
    split = leave_one_out(dataset.histories)
    histories = split.training if part == TRAINING else split.before_test
    data = TrainingData(len(dataset.items), histories, tensors)
    return FAMILIES[config.family](config, data)


def trained_in(
    run: Run,
    config: Config,
    origin: Origin,
    dataset: Dataset,
    features: Mapping[str, Features],
    device: torch.device,
    minutes: float | None = None,
    tensorboard: Path | None = None,
) -> tuple[Network, dict[str, Any]]:
    """Trains in a folder, goes on with the run that is in it, or reads the one that is finished.

    A refused start leaves nothing in the folder, of which the caller is the only writer.

    Args:
        run: folder of the run.
        config: configuration.
        origin: what it is trained on, of which part of the histories.
        dataset: items and complete histories.
        features: frozen features of each modality but ``id``.
        device: device to compute on.
        minutes: time limit, as in ``train``.
        tensorboard: folder for TensorBoard, as in ``train``.

    Returns:
        The network with its best weights, and the result of the run.

    Raises:
        RunError: the folder holds another run; or as ``train``.
        TrainingError: as ``train``.
        WriteError: as ``train``.
    """
    network = build(config, dataset, features, origin.part)
    try:
        run.start(config, origin)
        return network, train(network, dataset, run, device, minutes, tensorboard)
    finally:
        run.discard_untrained()


def train(
    network: Network,
    dataset: Dataset,
    run: Run,
    device: torch.device,
    minutes: float | None = None,
    tensorboard: Path | None = None,
) -> dict[str, Any]:
    """Trains until validation stops getting better, then measures the best weights over drawn candidates.

    Validation is what ``training.select`` names: N@5 over drawn candidates, or N@10 over the whole
    catalogue, as it also is where no user has candidates. Both are logged for every epoch. A run that is
    trained on the validation items too has none: it takes all its epochs, and the last weights are the best.

    A run that was interrupted goes on after its last complete epoch and ends with the same weights as one
    that was not: every epoch seeds its generators from (seed, epoch), so a checkpoint needs no generator
    states. A finished run goes on where the configuration has more epochs or patience by now.

    Args:
        network: network from ``build``; ends with the best weights.
        dataset: items and complete histories; the last two items of a user, or the last one, are never
            trained on.
        run: folder of checkpoints, log and result.
        device: device to compute on.
        minutes: time limit; training ends after the epoch in which the run's epochs and validations, those of
            earlier calls too, have taken so long. None for no limit.
        tensorboard: folder to write loss and validation to for TensorBoard; None for no such folder.

    Returns:
        The result as stored in the run: metrics of validation and test, epochs, seconds per epoch, the metric
        that chose the best epoch (``selected_by``), what ended the training (``ended_by``: ``epochs``,
        ``patience`` or ``minutes``), whether validation still rises, and the hours to the configured number
        of epochs.

    Raises:
        TrainingError: there is nothing to learn from, the loss is not a number, or TensorBoard is missing.
        RunError: a file of the run that is needed is damaged, or of another network.
        WriteError: a file of the run cannot be written.
    """
    finished = _finished(network, run, minutes)
    network.to(device)
    if finished is not None:
        _load(network, run.best(), run.folder / BEST)
        if _has_vectors(network, dataset, run):
            return finished  # nothing is computed again
        return _finish(run, finished, scorer_for(network))
    source = DrawnCandidates(dataset.histories, len(dataset.items))
    split = leave_one_out(dataset.histories)
    if not split.validation or max(map(len, split.training)) < 2:
        raise TrainingError(f"{dataset.name} has no user with enough items to train and validate on")
    validation = None
    course: dict[str, Any] = {"selected_by": None}
    if isinstance(network, LearningNetwork):
        if run.origin().part == TRAINING:
            validation = Validation(split.validation, source, network.learning.select)
        progress = _learn(network, run, validation, minutes, tensorboard)
        course = _course(progress, network.learning)
    else:  # it was complete when it was built
        progress = TrainingProgress()
        run.save_best(network.state_dict())
    _load(network, run.best(), run.folder / BEST)
    trained = scorer_for(network)
    parts = (
        {} if run.origin().part != TRAINING else {"validation": metrics(trained, split.validation, source)}
    )
    parts["test"] = metrics(trained, split.test, source)
    log_test_evaluation(run, "test", parts["test"])
    result = {
        "epochs": progress.epoch,
        "best_epoch": progress.best_epoch,
        **course,
        "seconds_per_epoch": progress.seconds_per_epoch,
        "device": describe(device),
        "metrics": parts,
    }
    return _finish(run, result, trained)


def _learn(
    network: LearningNetwork,
    run: Run,
    validation: Validation | None,
    minutes: float | None,
    tensorboard: Path | None,
) -> TrainingProgress:
    """Runs epochs until the number, the patience or the time is used up; returns how far it came."""
    optimiser, learning = network.optimiser(), network.learning
    progress = _resume(network, optimiser, run)
    if not progress.epoch:
        progress.selected_by = LAST if validation is None else validation.criterion
    if validation is not None and validation.criterion != learning.select:
        log.warning("no user has candidates: the best epoch is chosen by N@10 over the whole catalogue")
    if not _is_over(progress, learning, minutes):
        run.reopen()
    with ExitStack() as stack:
        scalars = None
        if tensorboard is not None:
            scalars = stack.enter_context(closing(Scalars(tensorboard, progress.log)))
        while not _is_over(progress, learning, minutes):
            start = time.perf_counter()
            loss = train_epoch(network, optimiser, progress)
            trained = time.perf_counter()
            measured = {} if validation is None else validation.measure(network)
            record = {
                "loss": loss,
                "seconds": trained - start,
                "validation_seconds": time.perf_counter() - trained,
                **measured,
            }
            _advance(network, optimiser, progress, run, record)
            if scalars is not None:
                scalars.write(progress.log[-1])
    return progress


def _is_over(progress: TrainingProgress, learning: LearningConfig, minutes: float | None) -> bool:
    late = minutes is not None and progress.epoch > 0 and progress.seconds >= 60 * minutes
    return late or is_over(progress.epoch, progress.best_epoch, learning)


def _course(progress: TrainingProgress, learning: LearningConfig) -> dict[str, Any]:
    """Says how a training went, for its result."""
    ended_by = "minutes"
    if progress.epoch >= learning.epochs:
        ended_by = "epochs"
    elif is_over(progress.epoch, progress.best_epoch, learning):
        ended_by = "patience"
    course = {
        "selected_by": progress.selected_by,
        "ended_by": ended_by,
        "training_seconds": progress.seconds,
        "hours_to_last_epoch": (progress.seconds_to(learning.epochs) or 0.0) / 3600,
    }
    if progress.selected_by != LAST:
        course["still_rising"] = progress.rises(learning.patience)
    return course


def _finished(network: Network, run: Run, minutes: float | None) -> dict[str, Any] | None:
    """Reads the result of a run that has no further epoch to train; None for any other."""
    try:
        result = run.result()
    except RunError as error:
        log.warning("%s; the last step is done again", error)
        return None
    if result is None or not isinstance(network, LearningNetwork):
        return result
    if is_over(result["epochs"], result["best_epoch"], network.learning):
        return result
    if minutes is not None and result.get("training_seconds", 0.0) >= 60 * minutes:
        return result
    if run.restore() is None:
        raise RunError(
            f"{run.folder} has no checkpoint.pt any more, so it cannot go on after epoch {result['epochs']}: "
            "train under another --name"
        )
    return None


def _has_vectors(network: Network, dataset: Dataset, run: Run) -> bool:
    try:
        run.item_vectors(len(dataset.items))
        if isinstance(network, GraphNetwork):
            run.user_vectors(len(dataset.users))
    except RunError as error:
        log.warning("%s", error)
        return False
    return True


def _finish(run: Run, result: dict[str, Any], trained: Scorer) -> dict[str, Any]:
    return run.finish(
        result, trained.item_vectors, trained.all_user_vectors if isinstance(trained, GraphScorer) else None
    )


def _resume(network: LearningNetwork, optimiser: torch.optim.Optimizer, run: Run) -> TrainingProgress:
    restored = run.restore()
    if restored is None:
        return TrainingProgress()
    state, progress = restored
    # First, so that damage is told before hours of training and not after them.
    _load(network, run.best(), run.folder / BEST)
    checkpoint = run.folder / CHECKPOINT
    _load(network, state["weights"], checkpoint)
    try:
        optimiser.load_state_dict(state["optimiser"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(f"{checkpoint} is of another network: {run.begin_again}") from error
    log.info("going on after epoch %d of %s", progress.epoch, run.folder)
    return progress


def _load(network: Network, weights: dict[str, Any], source: Path) -> None:
    """Loads weights that a run has saved.

    Raises:
        RunError: they are of another network, or not numbers.
    """
    try:
        network.load_state_dict(weights)
    except (RuntimeError, AttributeError, TypeError) as error:
        raise RunError(
            f"{source} holds the weights of another network: delete {source.parent} and train again"
        ) from error
    if not is_finite(network):
        raise RunError(f"{source} holds weights that are not numbers: delete {source.parent} and train again")


def _advance(
    network: LearningNetwork,
    optimiser: torch.optim.Optimizer,
    progress: TrainingProgress,
    run: Run,
    record: dict[str, float],
) -> None:
    """Ends an epoch: logs it, saves the weights if they are the best, saves a checkpoint."""
    progress.epoch += 1
    line = {"epoch": progress.epoch, **record}
    progress.log.append(line)
    measured = "".join(f", {name} {value:.4f}" for name, value in record.items() if "@" in name)
    log.info(
        "epoch %d of %d: loss %.3f%s, %.1f s, at most %s left",
        progress.epoch,
        network.learning.epochs,
        record["loss"],
        measured,
        record["seconds"],
        spoken(max(0.0, progress.seconds_to(network.learning.epochs) or 0.0)),
    )
    # The best weights first: a run killed between the two repeats the epoch and saves the same ones again.
    if progress.validation_of(line) > progress.best:
        progress.best, progress.best_epoch = progress.validation_of(line), progress.epoch
        run.save_best(network.state_dict())
    run.save({"weights": network.state_dict(), "optimiser": optimiser.state_dict()}, progress)
