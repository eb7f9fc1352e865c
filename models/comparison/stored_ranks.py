"""Keeps the ranks of all test targets in the folder of a run, so that its test part is evaluated once."""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from models.atomic import new_file
from models.comparison.targets import Ranks, Targets
from models.contracts import sha256_of
from models.training.run import Run

FILE = "test_ranks.npz"
"""Ranks by task, int32 [examples], with the hash of what each task asks. The hash of the file is in
``result.json``, which a training that goes on removes, so ranks of other weights are never read."""

_KEYS = "keys"


def read_ranks(run: Run, result: Mapping[str, Any], targets: Targets) -> dict[str, Ranks]:
    """Reads what a finished run has of the tasks.

    Args:
        run: folder of the run.
        result: result of the run.
        targets: tasks that are asked; ranks of others are left out.

    Returns:
        Ranks by task; empty where there is no file, or one that is damaged or of other weights.
    """
    path = run.folder / FILE
    if not path.is_file() or result.get("sha256", {}).get(FILE) != sha256_of(path):
        return {}
    try:
        with np.load(path, allow_pickle=False) as stored:
            keys = json.loads(str(stored[_KEYS]))
            tasks = [task for task in targets.tasks if keys.get(task) == targets.key(task)]
            return {task: np.asarray(stored[task], dtype=np.int32) for task in tasks}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return {}  # the hash is right, so an older version wrote it


def write_ranks(
    run: Run, result: dict[str, Any], targets: Targets, ranks: Mapping[str, Ranks]
) -> dict[str, Any]:
    """Writes the ranks of a finished run.

    Returns:
        The result as it was saved, with the hash of the ranks.

    Raises:
        WriteError: a file cannot be written.
    """
    path = run.folder / FILE
    keys = json.dumps({task: targets.key(task) for task in ranks})
    arrays: dict[str, Any] = {_KEYS: np.array(keys), **ranks}
    with new_file(path) as stream:
        np.savez_compressed(stream, **arrays)
    result = {**result, "sha256": {**result.get("sha256", {}), FILE: sha256_of(path)}}
    run.write_result(result)
    return result
