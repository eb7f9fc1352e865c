"""Trains a network of any family, with an early stop on validation."""

from __future__ import annotations

import logging
import math
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from models.data.dataset import Dataset
from models.errors import ModelsError
from models.evaluation import (
    CandidateSource,
    DrawnCandidates,
    Split,
    candidate_matrix,
    full_metrics,
    leave_one_out,
    sampled_metrics,
)
from models.features import Features
from models.networks.base import GraphNetwork, LearningNetwork, Network, TrainingData
from models.networks.config import Config, LearningConfig
from models.networks.registry import FAMILIES
from models.training.progress import FULL_CRITERION, TrainingProgress, is_over
from models.training.run import BEST, CHECKPOINT, Run, RunError
from models.training.scoring import (
    GraphScorer,
    Scorer,
    full_ranks,
    metrics,
    sampled_ranks,
    scorer_for,
)

log = logging.getLogger(__name__)


class TrainingError(ModelsError):
    """Training cannot start, or its loss has become NaN or infinite."""


def build(config: Config, dataset: Dataset, features: Mapping[str, Features]) -> Network:
    """Builds a network of the configuration's family, with random weights or, if it counts, with its counts.

    Args:
        config: family, sizes, modalities and seed.
        dataset: items and complete histories; the network sees the training part of them alone.
        features: frozen features of each modality but ``id``.

    Raises:
        ValueError: the features of a modality are missing or have another number of rows.
    """
    torch.manual_seed(config.training.seed)
    tensors = {
        name: (torch.from_numpy(each.values), torch.from_numpy(each.present))
        for name, each in features.items()
    }
    data = TrainingData(len(dataset.items), leave_one_out(dataset.histories).training, tensors)
    return FAMILIES[config.family](config, data)


def train(
    network: Network,
    dataset: Dataset,
    run: Run,
    device: torch.device,
    minutes: float | None = None,
) -> dict[str, Any]:
    """Trains until validation stops getting better, then measures the best weights over drawn candidates.

    Validation is what ``training.select`` names: N@5 over drawn candidates, or N@10 over the whole
    catalogue, as it also is where no user has candidates. Both are logged for every epoch.

    A run that was interrupted goes on after its last complete epoch and ends with the same weights as one
    that was not: every epoch seeds its generators from (seed, epoch), so a checkpoint needs no generator
    states. A finished run goes on where the configuration has more epochs or patience by now.

    Args:
        network: network from ``build``; ends with the best weights.
        dataset: items and complete histories; the last two items of a user are never trained on.
        run: folder of checkpoints, log and result.
        device: device to compute on.
        minutes: time limit; training ends after the epoch in which the run's epochs and validations, those of
            earlier calls too, have taken so long. None for no limit.

    Returns:
        The result as stored in the run: metrics of validation and test, epochs, seconds per epoch, the metric
        that chose the best epoch (``selected_by``), what ended the training (``ended_by``: ``epochs``,
        ``patience`` or ``minutes``), whether validation still rises, and the hours to the configured number
        of epochs.

    Raises:
        TrainingError: there is nothing to learn from, or the loss is not a number.
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
    course: dict[str, Any] = {"selected_by": None}
    if isinstance(network, LearningNetwork):
        progress = _learn(network, split, run, source, minutes)
        course = _course(progress, network.learning)
    else:  # it was complete when it was built
        progress = TrainingProgress()
        run.save_best(network.state_dict())
    _load(network, run.best(), run.folder / BEST)
    trained = scorer_for(network)
    result = {
        "epochs": progress.epoch,
        "best_epoch": progress.best_epoch,
        **course,
        "seconds_per_epoch": progress.seconds_per_epoch,
        "device": describe(device),
        "metrics": {
            "validation": metrics(trained, split.validation, source),
            "test": metrics(trained, split.test, source),
        },
    }
    return _finish(run, result, trained)


def train_epoch(network: LearningNetwork, optimiser: torch.optim.Optimizer, epoch: int) -> float:
    """Takes one step per batch.

    Args:
        network: network on its device.
        optimiser: optimiser of the network's parameters.
        epoch: number of complete epochs before this one; with the configuration's seed it makes the seed of
            order, negatives and dropout.

    Returns:
        The mean loss of the epoch's steps, in nats where it is a cross-entropy.

    Raises:
        TrainingError: the loss is not a number.
    """
    seed = network.learning.seed * 100_003 + epoch  # a prime apart, so that no two seeds share an epoch's
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)  # dropout
    device = next(network.parameters()).device
    network.train()
    total, steps = torch.zeros((), device=device), 0
    order = network.batches(generator)
    for batch in tqdm(order, desc=f"epoch {epoch + 1}", unit="step", leave=False, disable=None):
        loss = network.loss(batch.to(device), generator)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        total += loss.detach()  # stays on the device: reading it would wait for every step
        steps += 1
    mean = float(total) / steps
    # The last step of an epoch may break the weights without a sign in the losses before it.
    if not math.isfinite(mean) or not _is_finite(network):
        what = f"the loss of epoch {epoch + 1} is {mean}"
        if math.isfinite(mean):
            what = f"epoch {epoch + 1} ends with weights that are not numbers"
        raise TrainingError(
            f"{what}: lower training.learning_rate under another --name, or look for broken features; the "
            "best weights before are kept"
        )
    return mean


@contextmanager
def enough_memory() -> Iterator[None]:
    """Turns an error about memory that is used up into a sentence about what takes less.

    Raises:
        TrainingError: the memory of the machine or of the device is used up.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        # On the CPU torch has no class of its own for it.
        if isinstance(error, RuntimeError) and not re.search("allocate memory|out of memory", str(error)):
            raise
        raise TrainingError(
            "the memory is used up: lower training.negatives, training.positions, network.dimension or "
            "network.length"
        ) from error


def describe(device: torch.device) -> str:
    """Describes a device in words, for manifests."""
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    return f"{device.type}, {torch.get_num_threads()} threads"


def _learn(
    network: LearningNetwork, split: Split, run: Run, source: CandidateSource, minutes: float | None
) -> TrainingProgress:
    """Runs epochs until the number, the patience or the time is used up; returns how far it came."""
    # The same candidates after every epoch, so that epochs are compared and not draws.
    offered = [example for example in split.validation if source.offers(example)]
    candidates = candidate_matrix(offered, source)

    def validate() -> dict[str, float]:
        scorer = scorer_for(network)
        sampled = sampled_metrics(sampled_ranks(scorer, offered, candidates)) if offered else {}
        full = full_metrics(full_ranks(scorer, split.validation))
        return {**sampled, **{f"full.{name}": value for name, value in full.items()}}

    if not offered:
        log.warning(
            "no user has %s: the best epoch is chosen by N@10 over the whole catalogue", source.missing
        )
    optimiser, learning = network.optimiser(), network.learning
    progress = _resume(network, optimiser, run)
    if not progress.epoch:
        progress.selected_by = learning.select if offered else FULL_CRITERION
    if not _is_over(progress, learning, minutes):
        run.reopen()
    while not _is_over(progress, learning, minutes):
        start = time.perf_counter()
        loss = train_epoch(network, optimiser, progress.epoch)
        trained = time.perf_counter()
        measured = validate()
        record = {
            "loss": loss,
            "seconds": trained - start,
            "validation_seconds": time.perf_counter() - trained,
            **measured,
        }
        _advance(network, optimiser, progress, run, record)
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
    to_come = (learning.epochs - progress.epoch) * progress.seconds / max(1, progress.epoch)
    return {
        "selected_by": progress.selected_by,
        "ended_by": ended_by,
        "still_rising": progress.rises(learning.patience),
        "training_seconds": progress.seconds,
        "hours_to_last_epoch": to_come / 3600,
    }


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
    if not _is_finite(network):
        raise RunError(f"{source} holds weights that are not numbers: delete {source.parent} and train again")


def _is_finite(network: Network) -> bool:
    return all(bool(torch.isfinite(each).all()) for each in network.parameters())


def _advance(
    network: LearningNetwork,
    optimiser: torch.optim.Optimizer,
    progress: TrainingProgress,
    run: Run,
    record: dict[str, float],
) -> None:
    """Ends an epoch: logs it, saves the weights if they are the best, saves a checkpoint."""
    progress.epoch += 1
    progress.log.append({"epoch": progress.epoch, **record})
    measured = ", ".join(f"{name} {value:.4f}" for name, value in record.items() if "@" in name)
    log.info(
        "epoch %d: loss %.3f, validation %s, %.1f s",
        progress.epoch,
        record["loss"],
        measured,
        record["seconds"],
    )
    # The best weights first: a run killed between the two repeats the epoch and saves the same ones again.
    if progress.validation_of(record) > progress.best:
        progress.best, progress.best_epoch = progress.validation_of(record), progress.epoch
        run.save_best(network.state_dict())
    run.save({"weights": network.state_dict(), "optimiser": optimiser.state_dict()}, progress)
