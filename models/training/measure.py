"""Measures a finished run once more, on other users or over other candidates, without training."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from models.data.dataset import Dataset
from models.evaluation import (
    EVERYONE,
    CandidateSource,
    CohortChoice,
    Example,
    candidate_matrix,
    leave_one_out,
)
from models.evaluation.candidates import DRAWN
from models.evaluation.cohort import UNIFORM
from models.networks.base import Network
from models.training.run import Run
from models.training.scoring import metrics, metrics_over_candidates, scorer_for
from models.training.test_log import log_test_evaluation


def measure_test(
    network: Network,
    dataset: Dataset,
    run: Run,
    result: dict[str, Any],
    source: CandidateSource,
    cohort: CohortChoice = EVERYONE,
) -> dict[str, Any]:
    """Measures the test part of a finished run for other users or over the candidates of another source.

    Args:
        network: network as ``train`` leaves it, with the best weights.
        dataset: items and complete histories.
        run: folder of the finished run; its result keeps the new figures beside those that it has.
        result: result of the run.
        source: candidates that targets are ranked among.
        cohort: users whose targets are ranked; all by default.

    Returns:
        The result with one more part, which ``part_name`` names; that of a cohort says which it is. Unchanged
        if the run has the part already, with the same users and candidates: nothing is evaluated twice.
    """
    name, chosen = part_name(source, cohort), cohort.to_json()
    if name == "test":
        return result
    members = cohort.choose(leave_one_out(dataset.histories).test, source).members
    ranked = _digest(members, source)
    if result["metrics"].get(name, {}).get("ranked") == ranked:
        return result
    scorer = scorer_for(network)
    if chosen is None:  # ranks over the whole catalogue are those that the run has
        measured = {**result["metrics"]["test"], **metrics_over_candidates(scorer, members, source)}
    else:
        measured = {**metrics(scorer, members, source), "cohort": chosen}
    measured["ranked"] = ranked
    log_test_evaluation(run, name, measured)
    result = {**result, "metrics": {**result["metrics"], name: measured}}
    run.write_result(result)
    return result


def part_name(source: CandidateSource, cohort: CohortChoice) -> str:
    """Names the figures of some users over some candidates among the metrics of a run.

    Returns:
        ``test`` for all users and drawn candidates, ``test_published`` for other candidates, and, for
        example, ``test_drawn_of_400`` or ``test_authors_of_authors`` for a cohort.
    """
    chosen = cohort.to_json()
    if chosen is not None:
        who = chosen["users"] if cohort.name == UNIFORM else cohort.name
        return f"test_{source.name}_of_{who}"
    return "test" if source.name == DRAWN else f"test_{source.name}"


def _digest(members: Sequence[Example], source: CandidateSource) -> str:
    """Hashes whose targets are ranked and among what: published candidates are no part of a fingerprint."""
    offered = [example for example in members if source.offers(example)]
    digest = hashlib.sha256(np.asarray([example.user for example in members], dtype="<i4").tobytes())
    digest.update(candidate_matrix(offered, source).astype("<i4").tobytes())
    return digest.hexdigest()[:16]
