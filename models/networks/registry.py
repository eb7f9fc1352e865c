"""Lists the model families by the name in a configuration (``family = "sasrec"``)."""

from __future__ import annotations

from collections.abc import Mapping

from models.networks.base import Network
from models.networks.bm3 import BM3
from models.networks.freedom import Freedom
from models.networks.iisan import IISAN
from models.networks.mmgcn import MMGCN
from models.networks.tower_recommender import TowerRecommender

FAMILIES: dict[str, type[Network]] = {
    "sasrec": TowerRecommender,
    "morec": TowerRecommender,
    "mmgcn": MMGCN,
    "freedom": Freedom,
    "bm3": BM3,
    "iisan": IISAN,
}
"""Class of each family by name. A new family is one file beside this one and one line here."""


def family_of(record: Mapping[str, object]) -> object:
    """Returns the family that a configuration names; without a name it is SASRec or MoRec."""
    if "family" in record:
        return record["family"]
    # Runs and bundles from before the field: SASRec learns ids alone, MoRec reads contents.
    tower = record.get("tower")
    modalities = tower.get("modalities") if isinstance(tower, Mapping) else None
    return "sasrec" if modalities in (["id"], ("id",)) else "morec"
