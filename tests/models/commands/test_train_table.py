from __future__ import annotations

from typing import Any

from small_data import rows

from models.commands.train_table import train_table
from models.evaluation import DrawnCandidates, PublishedCandidates

DRAWN = DrawnCandidates([rows(0, 1, 2)], 100)
PUBLISHED = PublishedCandidates({}, [rows(0, 1, 2)], 100)
NOTHING = {"H@1": None, "H@5": None, "N@5": None}
SHARES = {"H@1": 0.1, "H@5": 0.5, "N@5": 0.3}


def part(shares: dict[str, Any], sampled_users: int) -> dict[str, Any]:
    full = {"H@10": 0.25, "N@10": 0.125}
    return {**shares, "full": full, "users": 1000, "sampled_users": sampled_users}


def table(
    asked: Any = DRAWN, selected_by: str = "N@5", encoders: str = "", **metrics: dict[str, Any]
) -> list[str]:
    result = {
        "metrics": metrics,
        "epochs": 3,
        "best_epoch": 2,
        "selected_by": selected_by,
        "seconds_per_epoch": 1.0,
        "device": "cpu",
    }
    test = metrics["test" if asked is DRAWN else "test_published"]
    figures = {name: test[name] for name in SHARES}
    return train_table(
        result, {"Random": figures, "Pop": figures}, DRAWN, asked, encoders=encoders
    ).splitlines()


def test_a_table_with_all_users_has_no_line_about_those_left_out() -> None:
    lines = table(validation=part(SHARES, 1000), test=part(SHARES, 1000))
    assert lines[2] == "test          10.00  50.00  30.00  25.00  12.50   1,000"
    assert lines[4] == "Pop           10.00  50.00  30.00                 1,000"
    assert len(lines) == 7


def test_the_foot_names_the_encoders_of_a_model_that_reads_some() -> None:
    parts = {"validation": part(SHARES, 1000), "test": part(SHARES, 1000)}
    assert "encoders     text minilm (mean)" in table(encoders="text minilm (mean)", **parts)
    assert not any(line.startswith("encoders") for line in table(**parts))


def test_users_without_candidates_are_counted_under_the_table() -> None:
    lines = table(validation=part(SHARES, 1000), test=part(SHARES, 997))
    assert "test without 29 unseen items: 3 users, who count in * alone" in lines
    assert lines[3].endswith(" 997")


def test_figures_that_no_user_is_left_for_are_dashes_with_a_reason() -> None:
    lines = table(selected_by="N@10", validation=part(NOTHING, 0), test=part(NOTHING, 0))
    assert lines[2].split() == ["test", "–", "–", "–", "25.00", "12.50", "1,000"]
    assert lines[3].split() == ["Random", "–", "–", "–", "0"]
    assert "test: no user has 29 unseen items, so H@1, H@5, N@5 have no value" in lines
    assert "(best 2 by validation N@10*)" in lines[-1]


def test_published_figures_stand_in_the_row_of_the_test_and_validation_stays_drawn() -> None:
    better = {name: share + 0.1 for name, share in SHARES.items()}
    parts = {"validation": part(SHARES, 1000), "test": part(SHARES, 1000)}
    lines = table(PUBLISHED, **parts, test_published=part(better, 990))
    assert lines[2].split()[:4] == ["test", "20.00", "60.00", "40.00"]
    assert "published with the data set, which has none for the validation item" in lines[5]
    assert "test without 29 usable published negatives: 10 users, who count in * alone" in lines
