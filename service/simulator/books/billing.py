"""What the vendor would bill for a call.

Nothing for what is refused. A finished answer in full. An answer that breaks off, or that the client leaves:
the input, and the output as far as it was made: what was sent of a stream, what the clock allows of a plain
answer. A request of a batch pays the batch's share of the price.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path

from service.simulator.books.ledger import Call

PRICES = Path(__file__).with_name("prices.toml")
_MILLION = 1_000_000


class Biller:
    """Fills in the bill of a call that has ended."""

    def __init__(self, table: Path = PRICES) -> None:
        content = tomllib.loads(table.read_text("utf-8"))
        self._prices: Mapping[str, Mapping[str, float]] = content["models"]
        self._batch_share: float = content["batch_share"]

    def bill(self, call: Call, made: int) -> None:
        """Enter tokens and US dollars.

        Args:
            call: that has ended; a model ``gpt-4o@anything`` has the price of ``gpt-4o``.
            made: output tokens made until then.
        """
        if call.outcome == "rejected" or call.model is None:
            return
        call.billed_input_tokens = call.input_tokens
        call.billed_output_tokens = made
        price = self._prices.get(call.model.partition("@")[0])
        if price is not None:
            plain = call.billed_input_tokens - call.cached_input_tokens
            call.cost_usd = (
                plain * price["input"]
                + call.cached_input_tokens * price["cached"]
                + call.billed_output_tokens * price["output"]
            ) / _MILLION
            if call.batch is not None:
                call.cost_usd *= self._batch_share
