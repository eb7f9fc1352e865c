"""Every evaluation of a test part is one line beside the runs, and nothing is evaluated twice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from toy_models import ITEMS, circle, circle_features, config

from models.evaluation import DrawnCandidates, PublishedCandidates, UniformCohort, leave_one_out
from models.training.fingerprint import fingerprint
from models.training.loop import build, train
from models.training.measure import measure_test
from models.training.run import Origin, Run
from models.training.test_log import TEST_LOG

DATASET = circle(users=60)
DRAWN = DrawnCandidates(DATASET.histories, ITEMS)
TEST = leave_one_out(DATASET.histories).test


def evaluations(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / TEST_LOG).read_text().splitlines()]


def test_every_evaluation_of_a_test_part_is_one_line_of_the_log_and_none_is_made_twice(
    tmp_path: Path,
) -> None:
    settings, run = config(training={"epochs": 1}), Run(tmp_path / "run")
    run.start(settings, Origin("toy", "data", "somewhere", None, "circle", fingerprint(DATASET, settings)))
    for _ in range(2):
        network = build(settings, DATASET, circle_features())
        result = train(network, DATASET, run, torch.device("cpu"))
        result = measure_test(network, DATASET, run, result, DRAWN, UniformCohort(20, seed=1))
    trained, chosen = evaluations(tmp_path)
    assert (trained["run"], trained["model"], trained["dataset"]) == ("run", "toy", "circle")
    assert trained["fingerprint"] == run.origin().fingerprint
    assert (trained["part"], trained["cohort"], trained["users"]) == ("test", None, 60)
    assert trained["metrics"]["N@5"] == result["metrics"]["test"]["N@5"]
    assert trained["metrics"]["full.N@10"] == result["metrics"]["test"]["full"]["N@10"]
    assert (chosen["part"], chosen["cohort"]["users"], chosen["users"]) == ("test_drawn_of_20", 20, 20)
    assert chosen["configuration"] == trained["configuration"]


def test_candidates_that_have_changed_are_evaluated_again(tmp_path: Path) -> None:
    settings, run = config(training={"epochs": 1}), Run(tmp_path / "run")
    run.start(settings, Origin("toy", "data", "somewhere", None, "circle", fingerprint(DATASET, settings)))
    network = build(settings, DATASET, circle_features())
    result = train(network, DATASET, run, torch.device("cpu"))
    examples = [example for example in TEST if DRAWN.offers(example)]
    for users in (10, 10, 11):  # the file of published negatives has one more user at last
        negatives = {each.user: DRAWN.candidates(each)[1:] for each in examples[:users]}
        source = PublishedCandidates(negatives, DATASET.histories, ITEMS)
        result = measure_test(network, DATASET, run, result, source)
    assert [line["sampled_users"] for line in evaluations(tmp_path)[1:]] == [10, 11]
