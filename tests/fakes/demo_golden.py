"""Writes the golden rankings of the committed demo bundle; ``make demo`` runs it after making the bundle."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
GOLDEN = Path(__file__).with_suffix(".json")
USERS = 12
K = 10


def golden_rankings(folder: Path) -> dict[str, Any]:
    """Returns the ten best unseen items with their scores, by backbone and user id."""
    from service.candidates.sequence import SequenceModel
    from service.catalogue.bundle import open_bundle

    bundle = open_bundle(folder)
    histories = bundle.catalogue.histories
    rankings: dict[str, Any] = {}
    for name, backbone in bundle.backbones.items():
        model = SequenceModel(backbone)
        rankings[name] = {}
        for user_id in list(histories.users)[:: len(histories.users) // USERS][:USERS]:
            history = histories.get(user_id) or []
            rows, scores = model.top(None, history, K, history)
            rankings[name][user_id] = {
                "items": [bundle.catalogue.items[row].item_id for row in rows],
                "scores": [round(score, 4) for score in scores],
            }
    return rankings


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    GOLDEN.write_text(json.dumps(golden_rankings(ROOT / "service" / "demo"), indent=1) + "\n")
