"""The accounts that all endpoints of the simulator share."""

from __future__ import annotations

from dataclasses import dataclass, field

from service.simulator.books.billing import Biller
from service.simulator.books.ledger import Ledger
from service.simulator.books.rate_limit import RateLimit


@dataclass(frozen=True, slots=True)
class Books:
    """The ledger and what belongs to it.

    Attributes:
        ledger: has one entry per call.
        rate_limit: counts requests and tokens of the minute.
        biller: fills in the bill of a call that has ended.
    """

    ledger: Ledger = field(default_factory=Ledger)
    rate_limit: RateLimit = field(default_factory=RateLimit)
    biller: Biller = field(default_factory=Biller)
