"""Groups the accounts that all endpoints of the simulator share."""

from __future__ import annotations

from dataclasses import dataclass, field

from service.simulator.accounting.billing import Biller
from service.simulator.accounting.ledger import Ledger
from service.simulator.accounting.rate_limit import RateLimit


@dataclass(frozen=True, slots=True)
class Accounts:
    """The ledger, the limits per minute and the biller.

    Attributes:
        ledger: ledger with one entry per call.
        rate_limit: counter of the requests and tokens of the minute.
        biller: biller of calls that have ended.
    """

    ledger: Ledger = field(default_factory=Ledger)
    rate_limit: RateLimit = field(default_factory=RateLimit)
    biller: Biller = field(default_factory=Biller)
