from __future__ import annotations

import numpy as np
import torch
from toy_models import ITEMS, circle, circle_features, config

from models.evaluation import DrawnCandidates, EvaluationProtocol, leave_one_out
from models.networks.base import Network
from models.networks.tower_recommender import TowerRecommender
from models.training.loop import build
from models.training.scoring import full_ranks, metrics, scorer_for


def scores_alone(network: Network, history: np.ndarray) -> np.ndarray:
    """What the network says after one history of at most L items, of all items: float32 [items]."""
    assert isinstance(network, TowerRecommender)
    with torch.inference_mode():
        vectors = network.item_vectors()
        read = vectors[torch.from_numpy(history[-6:].astype(np.int64))]
        return (vectors @ network.network.last(read[None])[0]).numpy()


def test_users_of_all_lengths_get_the_scores_that_each_gets_alone() -> None:
    settings = config(network={"blocks": 2}, tower={"modalities": ["id", "text"]})
    recommender = build(settings, circle(), circle_features()).eval()
    histories = [history for length in (1, 3, 6, 9, 2) for history in (circle().histories[0][:length],)]
    candidates = np.arange(20, dtype=np.int32).reshape(5, 4)
    scores = scorer_for(recommender).score(range(5), histories, candidates)
    for history, some, row in zip(histories, candidates, scores, strict=True):
        np.testing.assert_allclose(row, scores_alone(recommender, history)[some], rtol=1e-4, atol=1e-5)


def test_full_ranks_count_the_unseen_items_that_score_at_least_as_high() -> None:
    recommender = build(config(), circle(), {}).eval()
    examples = leave_one_out(circle().histories).test[:20]
    for example, rank in zip(examples, full_ranks(scorer_for(recommender), examples), strict=True):
        scores = scores_alone(recommender, example.history)
        seen = set(example.history.tolist()) | {example.target}
        better = sum(bool(scores[i] >= scores[example.target]) for i in range(ITEMS) if i not in seen)
        assert rank == 1 + better


def test_metrics_name_their_protocol_and_the_number_of_users() -> None:
    histories = circle().histories
    quoted = metrics(
        scorer_for(build(config(), circle(), {})),
        leave_one_out(histories).test,
        DrawnCandidates(histories, ITEMS, EvaluationProtocol(seed=5)),
    )
    assert quoted["users"] == quoted["sampled_users"] == 240
    assert quoted["protocol"]["seed"] == 5
    assert set(quoted) == {"H@1", "H@5", "N@5", "full", "users", "sampled_users", "protocol"}


def test_a_model_of_nan_hits_nothing() -> None:
    recommender = build(config(), circle(), {})
    assert isinstance(recommender, TowerRecommender)
    with torch.no_grad():
        recommender.network.positions.fill_(float("nan"))
    histories = circle().histories
    source = DrawnCandidates(histories, ITEMS)
    quoted = metrics(scorer_for(recommender), leave_one_out(histories).test, source)
    assert quoted["H@5"] == quoted["full"]["H@10"] == 0


def test_a_user_without_a_history_scores_all_items_alike() -> None:
    scorer = scorer_for(build(config(), circle(), {}))
    histories = [circle().histories[0], np.empty(0, dtype=np.int32)]
    known, unknown = scorer.score([0, 1], histories, np.arange(8, dtype=np.int32).reshape(2, 4))
    assert len(set(known.tolist())) == 4
    assert unknown.tolist() == [0, 0, 0, 0]
