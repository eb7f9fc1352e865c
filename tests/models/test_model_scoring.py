from __future__ import annotations

import numpy as np
import torch
from toy import ITEMS, circle, circle_features, config

from models.evaluation import Protocol, leave_one_out
from models.scoring import Scorer, full_ranks, metrics
from models.train import build


def test_users_of_all_lengths_get_the_scores_that_each_gets_alone() -> None:
    recommender = build(
        config(network={"blocks": 2}, tower={"modalities": ["id", "text"]}), ITEMS, circle_features()
    ).eval()
    histories = [history for length in (1, 3, 6, 9, 2) for history in (circle().histories[0][:length],)]
    candidates = np.arange(20, dtype=np.int32).reshape(5, 4)
    scores = Scorer(recommender).score(histories, candidates)
    for history, some, row in zip(histories, candidates, scores, strict=True):
        alone = recommender(torch.from_numpy(history[-6:].astype(np.int64))[None])[0, some.astype(np.int64)]
        np.testing.assert_allclose(row, alone.detach().numpy(), rtol=1e-4, atol=1e-5)


def test_full_ranks_count_the_unseen_items_that_score_at_least_as_high() -> None:
    recommender = build(config(), ITEMS, {}).eval()
    examples = leave_one_out(circle().histories).test[:20]
    for example, rank in zip(examples, full_ranks(Scorer(recommender), examples), strict=True):
        scores = recommender(torch.from_numpy(example.history[-6:].astype(np.int64))[None])[0]
        seen = set(example.history.tolist()) | {example.target}
        better = sum(bool(scores[i] >= scores[example.target]) for i in range(ITEMS) if i not in seen)
        assert rank == 1 + better


def test_metrics_name_their_protocol_and_the_number_of_users() -> None:
    histories = circle().histories
    quoted = metrics(
        Scorer(build(config(), ITEMS, {})), leave_one_out(histories).test, histories, Protocol(seed=5)
    )
    assert quoted["users"] == 240
    assert quoted["protocol"]["seed"] == 5
    assert set(quoted) == {"H@1", "H@5", "N@5", "full", "users", "protocol"}


def test_a_model_of_nan_hits_nothing() -> None:
    recommender = build(config(), ITEMS, {})
    with torch.no_grad():
        recommender.network.positions.fill_(float("nan"))
    histories = circle().histories
    quoted = metrics(Scorer(recommender), leave_one_out(histories).test, histories, Protocol())
    assert quoted["H@5"] == quoted["full"]["H@10"] == 0
