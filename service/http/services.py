"""Groups the parts that the routes use, opened before the first request and closed after the last."""

from __future__ import annotations

from dataclasses import dataclass

from service.catalogue.histories import HistoryReader
from service.generation import CurrentGeneration
from service.metrics import Metrics
from service.recommender import Recommender
from service.stores.events import Events
from service.stores.worker_stores import Stores


@dataclass(frozen=True)
class Services:
    """The parts behind the routes.

    Attributes:
        generation: holder of the catalogue and models; a request gets its generation from it once.
        recommender: recommender of this worker.
        histories: reader that joins stored histories with events.
        stores: stores of this worker.
        events: store of what users took since the bundle was made.
        metrics: metrics of this worker.
    """

    generation: CurrentGeneration
    recommender: Recommender
    histories: HistoryReader
    stores: Stores
    events: Events
    metrics: Metrics
