"""Loads the service's gateway in this process, with a simulator as its provider."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from service.lvlm.cost.prices import Prices
from service.lvlm.provider_attempt import Ending
from service.lvlm.providers.base import Call, Prompt, Text
from service.metrics import Metrics
from service.settings import Settings
from service.stores.worker_stores import memory_stores
from service.wiring.lvlm import GatewayOptions, open_gateway

DEADLINE = 3.0
"""Seconds for one request; after them it ends without an answer."""
SIMULATOR_OPTIONS = ("--ttft", "0.3", "--tokens-per-second", "200")
"""Options of the simulator: seconds to the first token, and tokens per second after it."""
PAUSE = 0.05
"""Seconds between a failed request and the client's next one, so that fast failures are no busy loop."""


@dataclass(frozen=True)
class GatewayLoad:
    """Endings and times of all requests of the clients.

    Attributes:
        endings: number of requests by their ending.
        seconds: time of each request in seconds.
        answered: time in seconds of each request that was answered.
    """

    endings: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    answered: list[float] = field(default_factory=list)


async def load_gateway(
    url: str, *, clients: int, seconds: float, deadline: float, **options: Any
) -> GatewayLoad:
    """Lets clients send one request after the other.

    Args:
        url: address of the simulator.
        clients: number of clients.
        seconds: seconds during which they begin new requests.
        deadline: seconds that each request may take.
        options: fields of ``GatewayOptions``, ``concurrency`` among them.
    """
    prices = Prices.read()
    simulator = Settings(simulator_url=url).providers["simulator"].open(prices.image_detail)
    providers = {simulator.name: simulator}
    gateway = open_gateway(GatewayOptions(**options), providers, memory_stores(0), Metrics(), prices=prices)
    found = GatewayLoad()
    end = time.monotonic() + seconds

    async def client(number: int) -> None:
        while time.monotonic() < end:
            began = time.perf_counter()
            ending = (await gateway.call("simulator", _call(number), deadline)).ending
            took = time.perf_counter() - began
            found.endings[ending.value] += 1
            found.seconds.append(took)
            # Refusals and missed deadlines are endings too; the gateway raises no exception for them.
            if ending is Ending.FINISHED:
                found.answered.append(took)
            else:
                await asyncio.sleep(PAUSE)

    await asyncio.gather(*map(client, range(clients)))
    await gateway.close()
    return found


def _call(number: int) -> Call:
    data = {
        # A different title for each client, as different users have.
        "history": [{"title": f"red mug number {number}"}],
        "candidates": [{"label": "A", "title": "red lamp"}, {"label": "B", "title": "blue mug"}],
        # The fields that the simulator reads from a prompt of the service.
        "order": "shuffled",
        "top": 2,
    }
    return Call(Prompt("Rank.", (Text(f"<data>\n{json.dumps(data)}\n</data>"),), None, "load"), "gpt-4o", 100)
