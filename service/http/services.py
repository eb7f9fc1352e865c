"""Groups the parts that the routes use, opened before the first request and closed after the last."""

from __future__ import annotations

from dataclasses import dataclass

from service.catalogue.histories import HistoryReader
from service.generation import CurrentGeneration
from service.http.process_state import ProcessState
from service.metrics import Metrics
from service.recommender import Recommender
from service.stores.base import Events
from service.stores.worker_stores import Stores


@dataclass(frozen=True)
class Services:
    """The parts behind the routes.

    Attributes:
        generation: holder of the catalogue and models; a request gets its generation from it once.
        recommender: recommender of this worker.
        histories: reader that joins stored histories with events.
        stores: stores of this worker.
        events: store of new events; None when several workers have no store in common.
        metrics: metrics of this worker.
        process: state of the process that serves the application.
    """

    generation: CurrentGeneration
    recommender: Recommender
    histories: HistoryReader
    stores: Stores
    events: Events | None
    metrics: Metrics
    process: ProcessState
