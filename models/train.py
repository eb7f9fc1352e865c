"""The training loop: next-item prediction on the training part, early stop on validation N@5."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import embedding
from tqdm import tqdm

from models.batches import Sequences, batches, training_sequences
from models.config import Config, TrainingConfig
from models.data.dataset import Dataset
from models.errors import ModelsError
from models.evaluation import Protocol, candidate_matrix, leave_one_out, sampled_metrics
from models.features import Features
from models.loss import full_softmax, sampled_softmax
from models.networks.item_tower import ItemTower
from models.networks.sasrec import SASRec
from models.networks.tower_recommender import Recommender
from models.run import Progress, Run
from models.scoring import Scorer, metrics, sampled_ranks

log = logging.getLogger(__name__)


class TrainingError(ModelsError):
    """Training cannot start, or has left the numbers behind."""


def build(config: Config, items: int, features: Mapping[str, Features]) -> Recommender:
    """A recommender with seeded random weights.

    Args:
        config: sizes, modalities and seed.
        items: size of the catalogue.
        features: of each modality but ``id``.

    Raises:
        ValueError: the features of a modality are missing or have another number of rows.
    """
    torch.manual_seed(config.training.seed)
    tensors = {
        name: (torch.from_numpy(each.values), torch.from_numpy(each.present))
        for name, each in features.items()
    }
    tower = ItemTower(config.tower, config.network.dimension, items, tensors)
    return Recommender(tower, SASRec(config.network))


def train(
    recommender: Recommender,
    dataset: Dataset,
    config: TrainingConfig,
    run: Run,
    device: torch.device,
    protocol: Protocol | None = None,
) -> dict[str, Any]:
    """Train until validation N@5 stops rising, then measure the best weights.

    A run that was interrupted goes on after its last complete epoch and ends with the same weights as if it
    had not been: every epoch seeds its own randomness from (seed, epoch), so a checkpoint needs no generator
    states.

    Args:
        recommender: from ``build``; ends with the best weights.
        dataset: items and complete histories; the last two items of a user are never trained on.
        config: of the training.
        run: where checkpoints, log and result go.
        device: where to compute.
        protocol: of the sampled candidates.

    Returns:
        The result as kept in the run: metrics of validation and test, epochs, seconds per epoch.

    Raises:
        TrainingError: there is nothing to learn from, or the loss is not a number.
    """
    finished = run.result()
    if finished is not None:
        recommender.to(device).load_state_dict(run.best(device))
        return finished
    protocol = protocol or Protocol()
    split = leave_one_out(dataset.histories)
    sequences = training_sequences(split.training, recommender.network.config.length)
    if not sequences or not split.validation:
        raise TrainingError(f"{dataset.name} has no user with enough items to train and validate on")
    candidates = candidate_matrix(split.validation, dataset.histories, len(dataset.items), protocol)
    recommender.to(device)
    optimiser = _optimiser(recommender, config)
    progress = _resume(recommender, optimiser, run, device)
    while progress.epoch < config.epochs and progress.epoch - progress.best_epoch < config.patience:
        start = time.perf_counter()
        loss = train_epoch(recommender, optimiser, sequences, config, progress.epoch)
        seconds = time.perf_counter() - start
        ranks = sampled_ranks(Scorer(recommender), split.validation, candidates)
        _advance(
            recommender,
            optimiser,
            progress,
            run,
            {"loss": loss, "seconds": seconds, **sampled_metrics(ranks)},
        )
    recommender.load_state_dict(run.best(device))
    scorer = Scorer(recommender)
    result = {
        "epochs": progress.epoch,
        "best_epoch": progress.best_epoch,
        "seconds_per_epoch": progress.seconds_per_epoch,
        "device": describe(device),
        "metrics": {
            "validation": metrics(scorer, split.validation, dataset.histories, protocol),
            "test": metrics(scorer, split.test, dataset.histories, protocol),
        },
    }
    run.finish(result, scorer.item_vectors)
    return result


def train_epoch(
    recommender: Recommender,
    optimiser: torch.optim.Optimizer,
    sequences: Sequences,
    config: TrainingConfig,
    epoch: int,
) -> float:
    """Every training sequence once.

    Args:
        recommender: on its device.
        optimiser: of its parameters.
        sequences: from ``training_sequences``.
        config: of the training.
        epoch: counted from 0; seeds order, negatives and dropout together with ``config.seed``.

    Returns:
        The mean loss of the epoch's steps, in nats.

    Raises:
        TrainingError: the loss is not a number.
    """
    generator = torch.Generator().manual_seed(config.seed * 100_003 + epoch)
    torch.manual_seed(config.seed * 100_003 + epoch)  # dropout
    device = next(recommender.parameters()).device
    recommender.train()
    total, steps = torch.zeros((), device=device), 0
    order = list(batches(sequences, config.positions, generator))
    for rows in tqdm(order, desc=f"epoch {epoch + 1}", unit="step", leave=False, disable=None):
        negatives = torch.randint(recommender.tower.items, (config.negatives,), generator=generator)
        loss = step_loss(recommender, rows.to(device), negatives.to(device), config)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        total += loss.detach()
        steps += 1
    mean = float(total) / steps
    if not math.isfinite(mean):
        raise TrainingError(
            f"the loss of epoch {epoch + 1} is {mean}: lower training.learning_rate, or look for "
            "broken features; the best weights before are kept"
        )
    return mean


def step_loss(recommender: Recommender, rows: Tensor, negatives: Tensor, config: TrainingConfig) -> Tensor:
    """The loss of one batch.

    Args:
        recommender: in training mode.
        rows: item rows int64 [B, n + 1]; position t predicts t + 1.
        negatives: item rows int64 [K]; without any, the softmax is over the whole catalogue.
        config: temperature and sampling correction.
    """
    # embedding(rows, vectors) is vectors[rows] with a gradient that adds up in a fixed order on any threads.
    targets = rows[:, 1:].flatten()  # [P]
    if not len(negatives):
        vectors = recommender.tower.all()  # [items, d]
        states = recommender.network(embedding(rows[:, :-1], vectors)).flatten(0, 1)  # [P, d]
        return full_softmax(states / config.temperature, vectors, targets)
    # The tower runs on the items of this step alone, each once.
    used, places = torch.unique(torch.cat([rows.flatten(), negatives]), return_inverse=True)
    vectors = recommender.tower(used)  # [R, d]
    taken, drawn = places[: rows.numel()].view_as(rows), places[rows.numel() :]
    states = recommender.network(embedding(taken[:, :-1], vectors)).flatten(0, 1)  # [P, d]
    return sampled_softmax(
        states / config.temperature,
        embedding(taken[:, 1:].flatten(), vectors),
        embedding(drawn, vectors),
        same=targets[:, None] == negatives,
        items=recommender.tower.items,
        log_q=config.log_q,
    )


def describe(device: torch.device) -> str:
    """A device in words, for manifests."""
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    return f"{device.type}, {torch.get_num_threads()} threads"


def _optimiser(recommender: Recommender, config: TrainingConfig) -> torch.optim.Optimizer:
    return torch.optim.AdamW(
        recommender.parameters(), lr=config.learning_rate, betas=(0.9, 0.98), weight_decay=config.weight_decay
    )


def _resume(
    recommender: Recommender, optimiser: torch.optim.Optimizer, run: Run, device: torch.device
) -> Progress:
    restored = run.restore(device)
    if restored is None:
        return Progress()
    state, progress = restored
    recommender.load_state_dict(state["weights"])
    optimiser.load_state_dict(state["optimiser"])
    log.info("going on after epoch %d of %s", progress.epoch, run.folder)
    return progress


def _advance(
    recommender: Recommender,
    optimiser: torch.optim.Optimizer,
    progress: Progress,
    run: Run,
    record: dict[str, float],
) -> None:
    """Close an epoch: log it, keep the weights if they are the best, keep a checkpoint."""
    progress.epoch += 1
    progress.log.append({"epoch": progress.epoch, **record})
    log.info(
        "epoch %(epoch)d: loss %(loss).3f, validation H@1 %(H@1).4f, H@5 %(H@5).4f, N@5 %(N@5).4f, "
        "%(seconds).1f s",
        progress.log[-1],
    )
    if record["N@5"] > progress.best:
        progress.best, progress.best_epoch = record["N@5"], progress.epoch
        run.save_best(recommender.state_dict())
    run.save({"weights": recommender.state_dict(), "optimiser": optimiser.state_dict()}, progress)
