from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_data import write_amazon_plus

from models.data import amazon_plus
from models.data.dataset import Dataset
from models.data.text import clean
from models.errors import DataError, EvaluationError
from models.evaluation import (
    PADDING,
    AuthorsCandidates,
    AuthorsCohort,
    CohortChoice,
    DrawnCandidates,
    UniformCohort,
    candidate_matrix,
    candidates_in_words,
    cohort,
    evaluate,
    leave_one_out,
    popularity,
    rank_of_target,
    sampled_metrics,
    with_fewer,
)
from models.evaluation.authors import dataset_authors
from models.training.baselines import Pop

ITEMS = 50
USERS = 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set named beauty: user n (internal) takes items n, n + 1, … and has the public id u<n>."""
    histories = [[str(n + step) for step in range(4)] for n in range(1, USERS + 1)]
    side: dict[str, Any] = {str(item): {"title": f"Thing {item}"} for item in range(1, ITEMS + 1)}
    return write_amazon_plus(tmp_path_factory.mktemp("data") / "beauty", histories, side)


@pytest.fixture(scope="module")
def dataset(folder: Path) -> Dataset:
    return amazon_plus.read(folder)


def asked(user: int, *candidates: int | None) -> dict[str, Any]:
    """The authors' record of a user, whose last item is user + 3."""
    ids = [None if item is None else str(item) for item in candidates]
    return {"target": str(user + 3), **({"candidates": ids} if candidates else {})}


def write(path: Path, users: dict[str, Any], category: str = "beauty") -> Path:
    path.write_text(json.dumps({category: users, "toys": {"1": {"target": "2"}}}))
    return path


def found(dataset: Dataset, folder: Path, tmp_path: Path, users: dict[str, Any]) -> AuthorsCohort:
    return dataset_authors(dataset, folder, write(tmp_path / "authors.json", users))


def test_the_authors_users_are_found_by_internal_ids_and_their_test_item(
    dataset: Dataset, folder: Path, tmp_path: Path
) -> None:
    cohort = found(dataset, folder, tmp_path, {"9": asked(9), "2": asked(2)})
    assert [dataset.users[at] for at in cohort.users] == ["u2", "u9"]
    assert cohort.users.dtype == np.int64
    test = leave_one_out(dataset.histories).test
    drawn = DrawnCandidates(dataset.histories, ITEMS)
    assert [example.user for example in cohort.choose(test, drawn).members] == cohort.users.tolist()
    assert cohort.to_json() == {"name": "authors", "users": 2, "left_out": 0}


def test_candidates_are_the_target_and_the_others_in_the_order_shown_without_unknown_titles(
    dataset: Dataset, folder: Path, tmp_path: Path
) -> None:
    users = {"2": asked(2, 40, None, 5, 30, None), "9": asked(9, 12, 50, 49, 48, 47)}
    cohort = found(dataset, folder, tmp_path, users)
    source = cohort.candidates()
    members = cohort.choose(leave_one_out(dataset.histories).test, source).members
    ids = [[dataset.items[row].item_id for row in source.candidates(example)] for example in members]
    assert ids == [["P5", "P40", "P30"], ["P12", "P50", "P49", "P48", "P47"]]
    matrix = candidate_matrix(members, source)
    assert matrix.shape == (2, 30)
    assert [row.tolist().count(PADDING) for row in matrix] == [27, 25]
    assert with_fewer(matrix) == 2
    assert candidates_in_words(source.to_json()) == "1 + 29 candidates, those of the paper's authors"


def test_a_user_whose_target_the_authors_did_not_show_is_left_out(
    dataset: Dataset, folder: Path, tmp_path: Path
) -> None:
    cohort = found(dataset, folder, tmp_path, {"2": asked(2, 40, 5), "9": asked(9, None, 50)})
    source = cohort.candidates()
    test = leave_one_out(dataset.histories).test
    chosen = cohort.choose(test, source)
    assert ([example.user for example in chosen.members], chosen.left_out) == ([1, 8], 1)
    assert [source.offers(example) for example in chosen.members] == [True, False]
    with pytest.raises(EvaluationError, match="has no candidates of the paper's authors"):
        source.candidates(test[8])


def test_users_who_took_something_else_last_are_counted_and_too_many_of_them_refused(
    dataset: Dataset, folder: Path, tmp_path: Path
) -> None:
    good = {str(user): asked(user) for user in range(1, 11)}
    cohort = found(dataset, folder, tmp_path, {**good, "11": {"target": "3"}, "999": asked(999)})
    assert (len(cohort.users), cohort.left_out) == (10, 2)
    with pytest.raises(DataError, match=r"2 of the 3 users .* have another last item there \(first: user 3"):
        found(dataset, folder, tmp_path, {"2": asked(2), "3": asked(4), "4": {"target": "0"}})


def test_a_number_of_users_beside_the_authors_cohort_must_be_theirs(
    dataset: Dataset, folder: Path, tmp_path: Path
) -> None:
    cohort = found(dataset, folder, tmp_path, {"2": asked(2), "9": asked(9)})
    cohort.check_users(None)
    cohort.check_users(2)
    for other in (400, "all"):
        with pytest.raises(DataError, match=f"of 2 users and --users {other} is another one: leave one"):
            cohort.check_users(other)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("[1]", "authors.json: it is not a JSON object, and must be JSON, {category: "),
        ("{", "authors.json: it is not JSON ("),
        ("", "authors.json: it is blank, and must be JSON"),
        ('{"toys": {}, "sports": {}}', "has no category 'beauty', only toys, sports: the name of the data"),
        ('{"beauty": []}', "beauty is no object of users"),
        ('{"beauty": {"2": 5}}', "user 2 must have a target and at most 30 candidates"),
        ('{"beauty": {"2": {"target": null}}}', "user 2 must have a target"),
        ('{"beauty": {"2": {"target": "5", "candidates": [5]}}}', "user 2 must have a target"),
        (json.dumps({"beauty": {"2": {"target": "5", "candidates": ["5"] * 31}}}), "at most 30 candidates"),
    ],
)
def test_a_file_of_another_form_is_one_sentence(
    content: str, complaint: str, dataset: Dataset, folder: Path, tmp_path: Path
) -> None:
    file = tmp_path / "authors.json"
    file.write_text(content)
    with pytest.raises(DataError) as error:
        dataset_authors(dataset, folder, file)
    assert complaint in str(error.value)


def test_what_is_missing_is_said_with_where_it_comes_from(
    dataset: Dataset, folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=r"pass --authors FILE .* released \(https://github.com/PALIN2018"):
        dataset_authors(dataset, folder, None)
    with pytest.raises(DataError, match=r"cannot be read \(No such file"):
        dataset_authors(dataset, folder, tmp_path / "none.json")
    with pytest.raises(DataError, match=r"has more than 67,108,864 bytes: it must be JSON"):
        dataset_authors(dataset, folder, Path("/dev/zero"))
    file = write(tmp_path / "authors.json", {"2": asked(2)})
    with pytest.raises(DataError, match=r"has no datamaps\.json and sequential.txt"):
        dataset_authors(dataset, tmp_path, file)
    with pytest.raises(DataError, match="no candidates of this category: leave --candidates authors out"):
        dataset_authors(dataset, folder, file).candidates()


def test_ids_without_a_public_one_are_left_out_of_the_map(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "beauty")
    maps = json.loads((copy / "datamaps.json").read_text())
    maps["id2item"]["7"] = None
    (copy / "datamaps.json").write_text(json.dumps(maps))
    users, items = amazon_plus.public_ids(copy)
    assert users["2"] == "u2"
    assert "7" not in items
    assert items["8"] == "P8"


SHOWN: list[list[int]] = [[4, 0, 1, 2], [5, 3, 6, PADDING], [7, PADDING, PADDING, PADDING]]


@pytest.mark.parametrize("padding", [np.inf, 0.0, -np.inf, np.nan])
@pytest.mark.parametrize("target", [1.0, np.inf, -np.inf, np.nan])
def test_padding_is_never_ranked_above_the_target(padding: float, target: float) -> None:
    candidates = np.array(SHOWN, dtype=np.int32)
    scores = np.where(candidates == PADDING, padding, 0.5)
    scores[:, 0] = target
    expected = [
        int(rank_of_target(row[rows != PADDING])) for row, rows in zip(scores, candidates, strict=True)
    ]
    assert rank_of_target(scores, candidates).tolist() == expected
    assert expected[2] == 1


def ranks_alone(counts: Sequence[int]) -> list[int]:
    """Ranks the targets of SHOWN by counts, one by one; ties count against the target."""
    known = [[row for row in rows if row != PADDING] for rows in SHOWN]
    return [1 + sum(counts[row] >= counts[rows[0]] for row in rows[1:]) for rows in known]


def test_pop_ranks_a_target_among_the_candidates_that_there_are() -> None:
    counts = [9, 1, 5, 0, 5, 0, 0, 0]  # the last item's count is 0, which a row of -1 would read
    histories = [np.array([0, 1, target], dtype=np.int32) for target in (4, 5, 7)]
    examples = leave_one_out(histories).test
    pop = Pop(np.array(counts))
    ranks = evaluate(pop.score, examples, np.array(SHOWN, dtype=np.int32), batch=2)
    assert ranks.tolist() == ranks_alone(counts) == [3, 3, 1]
    scores = pop.score([], np.array(SHOWN, dtype=np.int32))
    assert (scores[np.array(SHOWN) == PADDING] < min(counts)).all()


@pytest.mark.parametrize("choice", [UniformCohort(3, seed=5), UniformCohort(None)])
def test_a_uniform_choice_is_the_seeded_sample_of_those_with_candidates(choice: CohortChoice) -> None:
    histories = [np.arange(40 if user == 2 else 3, dtype=np.int32) for user in range(8)]
    source = DrawnCandidates(histories, 45)  # too few are left for user 2
    test = leave_one_out(histories).test
    chosen = choice.choose(test, source)
    users = [example.user for example in chosen.members]
    wanted = cohort([0, 1, 3, 4, 5, 6, 7], 3, 5).tolist() if choice.to_json() else list(range(8))
    assert (users, chosen.left_out) == (wanted, 1)


@pytest.fixture(scope="module")
def papers_files(real_data: Path) -> Path:
    folder = real_data.parent / "paper"
    if not (folder / "authors_cohorts.json").is_file():
        pytest.skip(f"no authors_cohorts.json in {folder}: it is made of what the paper's authors released")
    return folder


def percents(ranks: np.ndarray) -> list[float]:
    return [round(100 * share, 2) for share in sampled_metrics(ranks).values()]


def first_items_of_titles(file: Path, beauty: Dataset) -> dict[str, list[int]]:
    """The first item of each title shown, by internal user id; ``PADDING`` where no item has the title."""
    first: dict[str, int] = {}
    for row, item in enumerate(beauty.items):
        first.setdefault(item.title or "", row)
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        answers = [json.loads(line) for line in lines]
    # The file of the cohort has the order of the prompts without pictures.
    return {
        answer["user"]: [first.get(clean(title) or "", PADDING) for title in answer["candidates"]]
        for answer in answers
        if answer["modality"] == "title"
    }


def test_pop_on_the_authors_users_and_candidates(real_data: Path, papers_files: Path) -> None:
    folder = real_data / "amazon_review" / "beauty"
    beauty = amazon_plus.read(folder)
    theirs = dataset_authors(beauty, folder, papers_files / "authors_cohorts.json")
    split = leave_one_out(beauty.histories)
    training = popularity(beauty.histories, len(beauty.items))
    both = training + np.bincount([e.target for e in split.validation], minlength=len(beauty.items))

    def figures(source: AuthorsCandidates) -> tuple[list[float], list[float]]:
        """Over training, ties against the target; over training and validation, ties for it."""
        members = theirs.choose(split.test, source).members
        candidates = candidate_matrix(members, source)
        against = evaluate(Pop(training).score, members, candidates)
        scores = Pop(both).score([], candidates)
        return percents(against), percents(1 + (scores[:, 1:] > scores[:, :1]).sum(axis=1))

    source = theirs.candidates()
    members = theirs.choose(split.test, source).members
    candidates = candidate_matrix(members, source)
    assert (len(members), theirs.left_out, with_fewer(candidates)) == (400, 0, 52)
    assert np.count_nonzero(candidates == PADDING) == 55
    assert not any(set(rows[1:]) & set(e.history) for rows, e in zip(candidates, members, strict=True))
    assert figures(source) == ([12.25, 37.75, 25.36], [14.0, 41.5, 28.21])
    # The titles of those 55 are none, or those of several items. Taken for the first of these:
    titles = first_items_of_titles(papers_files / "authors_s1_answers_beauty.jsonl.gz", beauty)
    internal = {public: user for user, public in amazon_plus.public_ids(folder)[0].items()}
    filled = {
        user: np.where(rows == PADDING, titles[internal[beauty.users[user]]], rows).astype(np.int32)
        for user, rows in source.shown.items()
    }
    assert figures(AuthorsCandidates(filled)) == ([12.25, 37.25, 25.12], [14.0, 40.75, 27.86])


@pytest.mark.slow
def test_the_authors_users_of_sports_are_those_of_the_data_set(real_data: Path, papers_files: Path) -> None:
    folder = real_data / "amazon_review" / "sports"
    sports = amazon_plus.read(folder)
    assert len(dataset_authors(sports, folder, papers_files / "authors_cohorts.json").users) == 400
