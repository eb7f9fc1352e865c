"""What the routes use, opened before the first request and closed after the last."""

from __future__ import annotations

from dataclasses import dataclass

from service.catalogue.histories import HistoryReader
from service.generation import CurrentGeneration
from service.metrics import Metrics
from service.recommender import Recommender
from service.stores.base import Events
from service.stores.stores import Stores


@dataclass(frozen=True)
class Services:
    """The parts behind the routes.

    Attributes:
        generation: what a request reads, asked for once when it begins. Nothing else here holds a part of it.
        recommender: makes recommendations.
        histories: joins stored histories with events.
        stores: the stores of this worker.
        events: where new events go; None when several workers have no store in common.
        metrics: what Prometheus scrapes.
    """

    generation: CurrentGeneration
    recommender: Recommender
    histories: HistoryReader
    stores: Stores
    events: Events | None
    metrics: Metrics
