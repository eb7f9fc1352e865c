from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from toy_models import ITEMS, circle, circle_features, config

from models.evaluation import (
    EVERYONE,
    SAMPLED,
    AuthorsCandidates,
    AuthorsCohort,
    CandidateSource,
    CohortChoice,
    DrawnCandidates,
    PublishedCandidates,
    UniformCohort,
    candidate_matrix,
    cohort,
    full_metrics,
    leave_one_out,
    sampled_metrics,
)
from models.networks.base import Network
from models.training.fingerprint import fingerprint
from models.training.loop import build, train
from models.training.measure import measure_test, part_name
from models.training.run import Origin, Run
from models.training.scoring import full_ranks, sampled_ranks, scorer_for

DATASET = circle()
TEST = leave_one_out(DATASET.histories).test
DRAWN = DrawnCandidates(DATASET.histories, ITEMS)
AUTHORS = np.array([3, 5, 8, 100], dtype=np.int64)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Network, Run, dict[str, Any]]:
    settings, run = config(training={"epochs": 1}), Run(tmp_path_factory.mktemp("runs") / "run")
    network = build(settings, DATASET, circle_features())
    run.start(settings, Origin("toy", "data", "somewhere", None, "circle", fingerprint(DATASET, settings)))
    return network, run, train(network, DATASET, run, torch.device("cpu"))


def test_a_finished_run_is_measured_with_other_candidates_beside_the_first(
    trained: tuple[Network, Run, dict[str, Any]],
) -> None:
    network, run, result = trained
    offered = [e for e in TEST if DRAWN.offers(e)][:100]
    negatives = {e.user: DRAWN.candidates(e)[1:] for e in offered}
    published = PublishedCandidates(negatives, DATASET.histories, ITEMS)
    again = measure_test(network, DATASET, run, result, published)
    assert run.result() == again
    assert {name: again["metrics"][name] for name in ("validation", "test")} == result["metrics"]
    measured = again["metrics"]["test_published"]
    ranks = sampled_ranks(scorer_for(network), offered, candidate_matrix(offered, DRAWN))
    assert {name: measured[name] for name in SAMPLED} == sampled_metrics(ranks)
    assert (measured["users"], measured["sampled_users"]) == (240, 100)
    assert measured["protocol"] == published.to_json()
    assert measured["full"] == result["metrics"]["test"]["full"]


def test_what_training_measured_is_not_measured_again(trained: tuple[Network, Run, dict[str, Any]]) -> None:
    network, run, result = trained
    assert measure_test(network, DATASET, run, result, DRAWN, EVERYONE) is result


@pytest.mark.parametrize(
    ("choice", "users"),
    [
        (UniformCohort(20, seed=7), cohort([e.user for e in TEST], 20, 7).tolist()),
        (AuthorsCohort(AUTHORS, {}), AUTHORS.tolist()),
    ],
)
def test_the_figures_of_a_cohort_are_about_its_users_alone_over_the_whole_catalogue_too(
    trained: tuple[Network, Run, dict[str, Any]], choice: CohortChoice, users: list[int]
) -> None:
    network, run, result = trained
    measured = measure_test(network, DATASET, run, result, DRAWN, choice)["metrics"][part_name(DRAWN, choice)]
    members = [example for example in TEST if example.user in users]
    scorer = scorer_for(network)
    ranks = sampled_ranks(scorer, members, candidate_matrix(members, DRAWN))
    assert {name: measured[name] for name in SAMPLED} == sampled_metrics(ranks)
    assert measured["full"] == full_metrics(full_ranks(scorer, members))
    assert measured["users"] == measured["sampled_users"] == len(users)
    assert measured["cohort"] == choice.to_json()


def test_a_target_with_fewer_candidates_is_ranked_among_those(
    trained: tuple[Network, Run, dict[str, Any]],
) -> None:
    network, run, result = trained
    drawn = {user: DRAWN.candidates(TEST[user]) for user in AUTHORS.tolist()}
    assert [TEST[user].user for user in drawn] == list(drawn)
    shown = {user: rows.copy() for user, rows in drawn.items()}
    shown[5][[1, 4, 29]] = -1
    shown[100][1:] = -1  # nothing is left but the target
    source = AuthorsCandidates(shown)
    choice = AuthorsCohort(AUTHORS, shown)
    measured = measure_test(network, DATASET, run, result, source, choice)["metrics"]
    part = measured["test_authors_of_authors"]
    scorer = scorer_for(network)
    ranks = []
    for user, rows in drawn.items():
        kept = np.array([[row for row, there in zip(rows, shown[user] >= 0, strict=True) if there]])
        ranks += sampled_ranks(scorer, [TEST[user]], kept.astype(np.int32)).tolist()
    assert ranks[-1] == 1
    assert {name: part[name] for name in SAMPLED} == sampled_metrics(ranks)
    assert part["fewer_candidates"] == 2
    assert run.result() is not None


def test_padding_scores_minus_infinity_and_the_others_what_they_score_without_it(
    trained: tuple[Network, Run, dict[str, Any]],
) -> None:
    scorer = scorer_for(trained[0])
    whole = np.array([[4, 7, 9, ITEMS - 1]], dtype=np.int32)
    padded = np.array([[4, -1, 9, -1]], dtype=np.int32)
    (scores,), (expected,) = (scorer.score([3], [TEST[3].history], each) for each in (padded, whole))
    assert scores.dtype == np.float32
    assert scores[[0, 2]].tolist() == expected[[0, 2]].tolist()
    assert (scores[[1, 3]] == -np.inf).all()


@pytest.mark.parametrize(
    ("source", "choice", "name"),
    [
        (DRAWN, EVERYONE, "test"),
        (PublishedCandidates({}, (), 1), EVERYONE, "test_published"),
        (DRAWN, UniformCohort(400), "test_drawn_of_400"),
        (AuthorsCandidates({}), AuthorsCohort(AUTHORS, {}), "test_authors_of_authors"),
    ],
)
def test_every_choice_of_users_and_candidates_has_a_part_of_its_own(
    source: CandidateSource, choice: CohortChoice, name: str
) -> None:
    assert part_name(source, choice) == name
