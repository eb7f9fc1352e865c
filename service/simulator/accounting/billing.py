"""Bills a call as the vendor would.

A refused call costs nothing, and a finished answer its input and output. An answer that breaks off, or whose
client leaves, costs its input and the output made until then: of a stream the tokens that were sent, of a
plain answer the tokens that were due. A request in a batch costs a share of the ordinary price.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path

from service.simulator.accounting.ledger import LedgerEntry

PRICES = Path(__file__).with_name("prices.toml")
"""Price table of the simulator, kept apart from the service's own, which it serves to check."""

_MILLION = 1_000_000


class Biller:
    """Fills in the bill of a call that has ended.

    Args:
        table: TOML file of prices in US dollars per million tokens.
    """

    def __init__(self, table: Path = PRICES) -> None:
        content = tomllib.loads(table.read_text("utf-8"))
        self._prices: Mapping[str, Mapping[str, float]] = content["models"]
        self._batch_share: float = content["batch_share"]

    def bill(self, entry: LedgerEntry, made: int) -> None:
        """Enters billed tokens and US dollars.

        Args:
            entry: call that has ended; a model ``gpt-4o@anything`` has the price of ``gpt-4o``.
            made: output tokens made until then.
        """
        if entry.outcome == "rejected" or entry.model is None:
            return
        entry.billed_input_tokens = entry.input_tokens
        entry.billed_output_tokens = made
        # Tests name models "gpt-4o@fault" to give each its own fault.
        price = self._prices.get(entry.model.partition("@")[0])
        if price is not None:
            # Cached tokens are part of the input tokens, at a price of their own.
            plain = entry.billed_input_tokens - entry.cached_input_tokens
            entry.cost_usd = (
                plain * price["input"]
                + entry.cached_input_tokens * price["cached"]
                + entry.billed_output_tokens * price["output"]
            ) / _MILLION
            if entry.batch is not None:
                entry.cost_usd *= self._batch_share
