"""A trained recommender over many users at once: scores, ranks, metrics."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models.data.dataset import Rows
from models.evaluation import (
    Example,
    Protocol,
    candidate_matrix,
    evaluate,
    full_metrics,
    full_rank,
    sampled_metrics,
)
from models.networks.tower_recommender import Recommender

BATCH = 1024

Floats = NDArray[np.float32]


class Scorer:
    """User vectors and scores of a recommender whose weights stay as they are.

    Item vectors are computed once. Histories are grouped by length, so that nothing is padded.
    """

    def __init__(self, recommender: Recommender) -> None:
        self._network = recommender.network.eval()
        self._length = recommender.network.config.length
        recommender.eval()
        with torch.inference_mode():
            self._vectors = recommender.tower.all()  # [items, d]
        self.item_vectors: Floats = self._vectors.cpu().numpy()

    def user_vectors(self, histories: Sequence[Rows]) -> Floats:
        """Histories, oldest first and not empty -> float32 [users, d]. The last L items are read."""
        by_length: dict[int, list[int]] = defaultdict(list)
        for user, history in enumerate(histories):
            by_length[min(len(history), self._length)].append(user)
        users = np.empty((len(histories), self.item_vectors.shape[1]), dtype=np.float32)
        with torch.inference_mode():
            for n, members in by_length.items():
                for at in range(0, len(members), BATCH):
                    some = members[at : at + BATCH]
                    rows = torch.from_numpy(
                        np.stack([histories[user][-n:] for user in some]).astype(np.int64)
                    )
                    users[some] = (
                        self._network.last(self._vectors[rows.to(self._vectors.device)]).cpu().numpy()
                    )
        return users

    def score(self, histories: Sequence[Rows], candidates: NDArray[np.int32]) -> Floats:
        """Histories [users] and candidates int32 [users, n] -> scores float32 [users, n]."""
        users = self.user_vectors(histories)
        return np.asarray(np.einsum("ud,und->un", users, self.item_vectors[candidates]), dtype=np.float32)


def sampled_ranks(
    scorer: Scorer, examples: Sequence[Example], candidates: NDArray[np.int32]
) -> NDArray[np.int64]:
    """Ranks of the targets among their candidates, int64 [examples]."""
    return evaluate(scorer.score, examples, candidates, batch=8 * BATCH)


def full_ranks(scorer: Scorer, examples: Sequence[Example]) -> NDArray[np.int64]:
    """Ranks of the targets among all items that the user has not seen before, int64 [examples]."""
    ranks = [np.empty(0, dtype=np.int64)]
    for at in range(0, len(examples), BATCH):
        some = examples[at : at + BATCH]
        scores = scorer.user_vectors([e.history for e in some]) @ scorer.item_vectors.T
        ranks.append(full_rank(scores, [e.target for e in some], [e.history for e in some]))
    return np.concatenate(ranks)


def metrics(
    scorer: Scorer, examples: Sequence[Example], histories: Sequence[Rows], protocol: Protocol
) -> dict[str, Any]:
    """Everything that is quoted about one part of the split, with how it was measured.

    Args:
        scorer: the recommender.
        examples: validation or test.
        histories: the complete histories, which negatives avoid.
        protocol: of the sampled candidates.

    Returns:
        Shares of one: H@1, H@5, N@5 over the candidates; under ``full`` H@10, N@10 over the whole catalogue.
    """
    candidates = candidate_matrix(examples, histories, len(scorer.item_vectors), protocol)
    return {
        **sampled_metrics(sampled_ranks(scorer, examples, candidates)),
        "full": full_metrics(full_ranks(scorer, examples)),
        "users": len(examples),
        "protocol": protocol.to_json(),
    }
