from __future__ import annotations

import numpy as np
from toy_models import circle

from models.comparison.targets import AUTHORS, DRAWN_29, DRAWN_99, FULL, targets_of
from models.evaluation import AuthorsCohort, DrawnCandidates, candidate_matrix, evaluate, sampled_metrics
from models.training.baselines import baseline_metrics, baselines


def test_all_users_are_ranked_as_every_other_table_ranks_them() -> None:
    dataset = circle()
    targets, source = targets_of(dataset, None), DrawnCandidates(dataset.histories, len(dataset.items))
    for name, baseline in baselines(dataset).items():
        ranks = targets.rank_baseline(baseline, [DRAWN_29])[DRAWN_29]
        assert sampled_metrics(ranks) == baseline_metrics(dataset, source)[name]


def test_a_user_without_candidates_has_no_rank() -> None:
    dataset = circle()  # 60 items: no user has 99 that are unseen
    targets = targets_of(dataset, None)
    ranks = targets.rank_baseline(baselines(dataset)["Pop"], targets.tasks)
    assert not ranks[DRAWN_99].any()
    assert ranks[FULL].min() >= 1
    assert targets.authors is None


def test_the_authors_candidates_are_ranked_for_their_users_alone() -> None:
    dataset = circle()
    plain = targets_of(dataset, None)
    example = plain.examples[3]
    shown = candidate_matrix([example], DrawnCandidates(dataset.histories, len(dataset.items)))[0]
    cohort = AuthorsCohort(np.array([example.user]), {example.user: shown[:10]}, left_out=2)
    targets = targets_of(dataset, cohort)
    pop = baselines(dataset)["Pop"]
    ranks = targets.rank_baseline(pop, [AUTHORS])[AUTHORS]
    assert ranks.nonzero()[0].tolist() == [3]
    assert ranks[3] == evaluate(pop.score, [example], shown[None, :10])[0]
    assert targets.authors is not None
    assert targets.authors.nonzero()[0].tolist() == [3]
    assert targets.key(DRAWN_29) == plain.key(DRAWN_29)


def test_the_key_of_a_task_changes_with_what_is_asked() -> None:
    dataset = circle()
    few = circle(users=239)
    one, other = targets_of(dataset, None), targets_of(few, None)
    assert one.key(FULL) != other.key(FULL)
    assert len({one.key(task) for task in one.tasks}) == len(one.tasks)
