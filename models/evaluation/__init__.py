"""Evaluates by leave-one-out with sampled candidates, alike in training and in replay (numpy only).

The protocol is SASRec's (Kang & McAuley, ICDM 2018, section IV-C) with the candidate count of MSRBench
(Zhou et al., WWW 2025): the last item of a user is the test target, the one before it the validation
target, and a target is ranked among 29 items that the user never touched. Which 29, a ``CandidateSource``
says. A user for whom it has none is left out of these figures, and counted. Whose targets are ranked, a
``CohortChoice`` says.

All draws depend on the arguments of a function alone: no generator is passed on, so the candidates of a user
are the same in a batch of training, in a replay over HTTP and in any order of calls.
"""

from models.evaluation.authors import AuthorsCandidates, AuthorsCohort, authors_cohort
from models.evaluation.candidates import (
    PADDING,
    CandidateSource,
    DrawnCandidates,
    EvaluationProtocol,
    candidate_matrix,
    candidates_in_words,
    fewer_in_words,
    sample_candidates,
    with_fewer,
)
from models.evaluation.cohort import (
    COHORT_SIZE,
    EVERYONE,
    CohortChoice,
    UniformCohort,
    cohort,
    cohort_in_words,
)
from models.evaluation.published import PublishedCandidates
from models.evaluation.ranking import (
    FULL,
    MISS,
    SAMPLED,
    ScoreFunction,
    Ties,
    evaluate,
    evaluate_full,
    full_metrics,
    full_rank,
    hit_at,
    ndcg_at,
    rank_of_target,
    sampled_metrics,
    sampled_metrics_or_none,
)
from models.evaluation.split import Example, Split, leave_one_out, popularity

__all__ = [
    "COHORT_SIZE",
    "EVERYONE",
    "FULL",
    "MISS",
    "PADDING",
    "SAMPLED",
    "AuthorsCandidates",
    "AuthorsCohort",
    "CandidateSource",
    "CohortChoice",
    "DrawnCandidates",
    "EvaluationProtocol",
    "Example",
    "PublishedCandidates",
    "ScoreFunction",
    "Split",
    "Ties",
    "UniformCohort",
    "authors_cohort",
    "candidate_matrix",
    "candidates_in_words",
    "cohort",
    "cohort_in_words",
    "evaluate",
    "evaluate_full",
    "fewer_in_words",
    "full_metrics",
    "full_rank",
    "hit_at",
    "leave_one_out",
    "ndcg_at",
    "popularity",
    "rank_of_target",
    "sample_candidates",
    "sampled_metrics",
    "sampled_metrics_or_none",
    "with_fewer",
]
