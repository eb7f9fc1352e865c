"""Keeps a log of every evaluation of a test part: one that is looked at often is no longer a test.

``test-evaluations.jsonl`` in the folder of all runs has one line per evaluation: when, of which run and
configuration, on which data, users and candidates, with which figures.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from models.atomic import append_line
from models.evaluation import FULL, SAMPLED
from models.training.run import Run

TEST_LOG = "test-evaluations.jsonl"
"""Name of the log, beside the folders of the runs."""


def log_test_evaluation(run: Run, part: str, measured: Mapping[str, Any]) -> None:
    """Appends one evaluation to the log beside the run's folder; called where figures have been computed.

    Args:
        run: run whose weights were measured; its configuration and data are written too.
        part: name of the figures among the metrics of the run, such as ``test`` or ``test_drawn_of_400``.
        measured: the figures as ``training.scoring.metrics`` returns them, with ``cohort`` where they are
            about some of the users.

    Raises:
        WriteError: the line cannot be written.
        RunError: the run has no configuration, or a damaged one.
    """
    origin, config = run.origin(), run.config().to_json()
    line = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "run": run.folder.resolve().name,
        "model": origin.model,
        "family": config["family"],
        "seed": config["training"]["seed"],
        "configuration": hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:16],
        "dataset": origin.dataset,
        "fingerprint": origin.fingerprint,
        "trained_on": origin.part,
        "part": part,
        "cohort": measured.get("cohort"),
        "protocol": measured["protocol"],
        "users": measured["users"],
        "sampled_users": measured["sampled_users"],
        "metrics": {
            **{name: measured[name] for name in SAMPLED},
            **{f"full.{name}": measured["full"][name] for name in FULL},
        },
    }
    append_line(run.folder.resolve().parent / TEST_LOG, json.dumps(line))
