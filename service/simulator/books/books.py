"""Everything that the simulator writes down about calls."""

from __future__ import annotations

from dataclasses import dataclass, field

from service.simulator.books.billing import Biller
from service.simulator.books.ledger import Ledger
from service.simulator.books.rate_limit import RateLimit


@dataclass(frozen=True, slots=True)
class Books:
    """The books that all endpoints share.

    Attributes:
        ledger: one entry per call.
        rate_limit: what is left of the minute.
        biller: makes the bill of a call that has ended.
    """

    ledger: Ledger = field(default_factory=Ledger)
    rate_limit: RateLimit = field(default_factory=RateLimit)
    biller: Biller = field(default_factory=Biller)
