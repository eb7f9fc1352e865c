"""Groups the parts that the routes use, opened before the first request and closed after the last."""

from __future__ import annotations

from dataclasses import dataclass

from service.catalogue.histories import HistoryReader
from service.executor import BoundedExecutor
from service.generation import CurrentGeneration
from service.http.client_limits import ClientLimits
from service.http.links import Links
from service.http.process_state import ProcessState
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
        search_threads: threads in which the generation's search runs.
        image_threads: threads in which pictures are read for clients.
        histories: reader that joins stored histories with events.
        stores: stores of this worker.
        events: store of what users took since the bundle was made.
        metrics: metrics of this worker.
        links: builder of the links in answers.
        client_limits: limits on what each client may ask for.
        process: state of the process that serves the application.
    """

    generation: CurrentGeneration
    recommender: Recommender
    search_threads: BoundedExecutor
    image_threads: BoundedExecutor
    histories: HistoryReader
    stores: Stores
    events: Events
    metrics: Metrics
    links: Links
    client_limits: ClientLimits
    process: ProcessState
