"""Scores many users at once with a trained network, and computes ranks and metrics from the scores."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models.data.dataset import Rows
from models.evaluation import (
    PADDING,
    CandidateSource,
    Example,
    candidate_matrix,
    full_metrics,
    full_rank,
    rank_of_target,
    sampled_metrics,
    sampled_metrics_or_none,
    with_fewer,
)
from models.networks.base import GraphNetwork, Network, SequenceNetwork
from models.shown_progress import ShownProgress
from models.training.progress import FULL_CRITERION

BATCH = 1024
"""Users whose scores of the whole catalogue are held in memory at once."""

Floats = NDArray[np.float32]


class Scorer(ABC):
    """Scores with the item vectors and user vectors of a network whose weights no longer change.

    Attributes:
        item_vectors: vectors of the catalogue, float32 [items, d], computed once.
    """

    item_vectors: Floats

    @abstractmethod
    def user_vectors(self, users: Sequence[int], histories: Sequence[Rows]) -> Floats:
        """Computes the vectors to score items with.

        Args:
            users: positions of the users in the data set.
            histories: item rows of the same users, oldest first.

        Returns:
            float32 [users, d].
        """

    def score(self, users: Sequence[int], histories: Sequence[Rows], candidates: NDArray[np.int32]) -> Floats:
        """Scores candidates int32 [users, n] of users with these histories: float32 [users, n].

        Candidates that are ``PADDING`` score minus infinity.
        """
        vectors = self.user_vectors(users, histories)  # [users, d]
        there = candidates != PADDING
        # Row 0 stands in for padding: a row of -1 would read the last item.
        read = self.item_vectors[np.where(there, candidates, 0)]  # [users, n, d]
        scores = np.einsum("ud,und->un", vectors, read)
        return np.where(there, scores, -np.inf).astype(np.float32)


class SequenceScorer(Scorer):
    """Encodes the histories of users, grouped by length so that nothing is padded."""

    def __init__(self, network: SequenceNetwork) -> None:
        self._encoder = network.eval().user_encoder()
        with torch.inference_mode():
            self._vectors = network.item_vectors()  # [items, d]
        self.item_vectors: Floats = self._vectors.cpu().numpy()

    def user_vectors(self, users: Sequence[int], histories: Sequence[Rows]) -> Floats:
        """Encodes the last L items of each history, float32 [users, d]; zeros for an empty one.

        Zeros score all items alike, so a target is last: nothing is known of such a user.
        """
        by_length: dict[int, list[int]] = defaultdict(list)
        for at, history in enumerate(histories):
            # All histories of L items and more are one group: only the last L items are read.
            by_length[min(len(history), self._encoder.length)].append(at)
        by_length.pop(0, None)
        vectors = np.zeros((len(histories), self.item_vectors.shape[1]), dtype=np.float32)
        with torch.inference_mode():
            for n, members in by_length.items():
                for start in range(0, len(members), BATCH):
                    some = members[start : start + BATCH]
                    rows = torch.from_numpy(np.stack([histories[at][-n:] for at in some]).astype(np.int64))
                    read = self._vectors[rows.to(self._vectors.device)]  # [B, n, d]
                    vectors[some] = self._encoder.last(read).cpu().numpy()
        return vectors


class GraphScorer(Scorer):
    """Looks up the vectors of users, which were trained on their histories; histories are not read again."""

    def __init__(self, network: GraphNetwork) -> None:
        network.eval()
        with torch.inference_mode():
            self.item_vectors: Floats = network.item_vectors().cpu().numpy()
            self.all_user_vectors: Floats = network.user_vectors().cpu().numpy()  # [all users, d]

    def user_vectors(self, users: Sequence[int], histories: Sequence[Rows]) -> Floats:
        """Looks the vectors of users up, float32 [users, d]."""
        return self.all_user_vectors[np.asarray(users, dtype=np.int64)]


def scorer_for(network: Network) -> Scorer:
    """Makes the scorer for a network of either kind."""
    if isinstance(network, SequenceNetwork):
        return SequenceScorer(network)
    assert isinstance(network, GraphNetwork), type(network)
    return GraphScorer(network)


def sampled_ranks(
    scorer: Scorer, examples: Sequence[Example], candidates: NDArray[np.int32]
) -> NDArray[np.int64]:
    """Ranks targets among their candidates, int64 [examples]."""
    ranks = [np.empty(0, dtype=np.int64)]
    for at in range(0, len(examples), 8 * BATCH):
        some = examples[at : at + 8 * BATCH]
        users, histories = [e.user for e in some], [e.history for e in some]
        rows = candidates[at : at + 8 * BATCH]
        ranks.append(rank_of_target(scorer.score(users, histories, rows), rows))
    return np.concatenate(ranks)


def full_ranks(scorer: Scorer, examples: Sequence[Example]) -> NDArray[np.int64]:
    """Ranks targets among all items that the user has not seen before, int64 [examples]."""
    ranks = [np.empty(0, dtype=np.int64)]
    with ShownProgress("ranks over the whole catalogue", len(examples), "user") as shown:
        for at in range(0, len(examples), BATCH):
            some = examples[at : at + BATCH]
            users, histories = [e.user for e in some], [e.history for e in some]
            scores = scorer.user_vectors(users, histories) @ scorer.item_vectors.T  # [users, items]
            ranks.append(full_rank(scores, [e.target for e in some], histories))
            shown.update(len(some))
    return np.concatenate(ranks)


class Validation:
    """Measures the validation part after every epoch, over the same candidates: no draw is compared.

    Attributes:
        criterion: metric that chooses the best epoch, a key of what ``measure`` returns.
    """

    def __init__(self, examples: Sequence[Example], source: CandidateSource, select: str) -> None:
        """Takes the validation part, the candidates that targets are ranked among, and the metric asked for.

        Where no user has candidates, N@10 over the whole catalogue is the metric whatever is asked for.
        """
        self._examples = examples
        self._offered = [example for example in examples if source.offers(example)]
        self._candidates = candidate_matrix(self._offered, source)
        self.criterion = select if self._offered else FULL_CRITERION

    def measure(self, network: Network) -> dict[str, float]:
        """Computes H@1, H@5 and N@5 over candidates, and full.H@10 and full.N@10, as shares of one."""
        scorer = scorer_for(network)
        measured = {}
        if self._offered:
            measured = sampled_metrics(sampled_ranks(scorer, self._offered, self._candidates))
        full = full_metrics(full_ranks(scorer, self._examples))
        return {**measured, **{f"full.{name}": value for name, value in full.items()}}


def metrics(scorer: Scorer, examples: Sequence[Example], source: CandidateSource) -> dict[str, Any]:
    """Computes everything that is quoted about one part of the split, with the protocol beside it.

    Args:
        scorer: scorer of the trained network.
        examples: validation or test part.
        source: candidates that targets are ranked among.

    Returns:
        What ``metrics_over_candidates`` returns; under ``full`` H@10 and N@10 over the whole catalogue, as
        shares of all ``users``.
    """
    return {
        **metrics_over_candidates(scorer, examples, source),
        "full": full_metrics(full_ranks(scorer, examples)),
        "users": len(examples),
    }


def metrics_over_candidates(
    scorer: Scorer, examples: Sequence[Example], source: CandidateSource
) -> dict[str, Any]:
    """Computes H@1, H@5 and N@5 over candidates, shares of one of those ``sampled_users`` who have them.

    Users without are left out. If none is left, the three are None. If ``fewer_candidates`` is there, it is
    the number of the others whose target is ranked among fewer than the protocol says.
    """
    offered = [example for example in examples if source.offers(example)]
    candidates = candidate_matrix(offered, source)
    fewer = with_fewer(candidates)
    return {
        **sampled_metrics_or_none(sampled_ranks(scorer, offered, candidates)),
        "sampled_users": len(offered),
        **({"fewer_candidates": fewer} if fewer else {}),
        "protocol": source.to_json(),
    }
