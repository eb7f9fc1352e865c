"""The model families by the name that a configuration calls them (``family = "sasrec"``)."""

from __future__ import annotations

from collections.abc import Mapping

from models.networks.base import Network
from models.networks.tower_recommender import TowerRecommender

FAMILIES: dict[str, type[Network]] = {
    "sasrec": TowerRecommender,
    "morec": TowerRecommender,
}
"""A new family is one file beside this one and one line here."""


def family_of(record: Mapping[str, object]) -> object:
    """The family that a configuration names; those from before the field are SASRec or MoRec."""
    if "family" in record:
        return record["family"]
    tower = record.get("tower")
    modalities = tower.get("modalities") if isinstance(tower, Mapping) else None
    return "sasrec" if modalities in (["id"], ("id",)) else "morec"
