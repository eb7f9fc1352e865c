"""What the vendor would bill for a call.

Nothing for what is refused. A finished answer in full. An answer that breaks off, or that the client leaves:
the input, and the output as far as it was made: what was sent of a stream, what the clock allows of a plain
answer.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path

from service.simulator.ledger import Call

PRICES = Path(__file__).with_name("prices.toml")
_MILLION = 1_000_000


class Biller:
    """Fills in the bill of a call that has ended."""

    def __init__(self, table: Path = PRICES) -> None:
        self._prices: Mapping[str, Mapping[str, float]] = tomllib.loads(table.read_text("utf-8"))["models"]

    def bill(self, call: Call, made: int, price_as: Mapping[str, str]) -> None:
        """Enter tokens and US dollars.

        Args:
            call: that has ended.
            made: output tokens made until then.
            price_as: model -> the one whose price it has.
        """
        if call.outcome == "rejected" or call.model is None:
            return
        call.billed_input_tokens = call.input_tokens
        call.billed_output_tokens = made
        price = self._prices.get(price_as.get(call.model, call.model))
        if price is not None:
            plain = call.billed_input_tokens - call.cached_input_tokens
            call.cost_usd = (
                plain * price["input"]
                + call.cached_input_tokens * price["cached"]
                + call.billed_output_tokens * price["output"]
            ) / _MILLION
