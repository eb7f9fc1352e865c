"""Starts the simulator, and is the client of its control plane: faults, the ledger of calls, and its load."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from benchmarks.errors import BenchmarkError
from benchmarks.lab.servers import free_port, running, url_of

TIMEOUT = 60.0
"""Seconds for one answer of the control plane; a later one is an error."""
POLL_SECONDS = 0.02
"""Seconds between two reads of a ledger that has calls under way."""

LedgerRow = Mapping[str, Any]
"""One call in the simulator's ledger; the fields are those of ``GET /ledger``."""


class SimulatorControl:
    """A client of one running simulator's control plane.

    Attributes:
        url: address of the simulator without a path; OpenAI's paths begin with ``/v1`` there.
    """

    def __init__(self, url: str) -> None:
        self.url = url

    def set_faults(self, script: Mapping[str, Any]) -> None:
        """Replaces the script of faults: ``phases``, ``by_model``, ``capacity`` and so on.

        Raises:
            BenchmarkError: the simulator refuses it or does not answer.
        """
        self._send("PUT", "/faults", script)

    def ledger(self) -> list[LedgerRow]:
        """Reads every call since the ledger was cleared, those under way included.

        Raises:
            BenchmarkError: the simulator does not answer.
        """
        rows: list[LedgerRow] = json.loads(self._send("GET", "/ledger"))
        return rows

    def ended_calls(self) -> list[LedgerRow]:
        """Reads the ledger once every call in it has ended.

        A client has its answer shortly before the simulator completes the row.

        Raises:
            BenchmarkError: the simulator does not answer.
        """
        while True:
            rows = self.ledger()
            # A row's seconds are set when the call ends, whatever ended it.
            if all(row["seconds"] is not None for row in rows):
                return rows
            time.sleep(POLL_SECONDS)

    def ledger_summary(self) -> Mapping[str, Any]:
        """Reads the sums over the ledger, ``calls`` and ``cost_usd`` among them.

        Raises:
            BenchmarkError: the simulator does not answer.
        """
        summary: Mapping[str, Any] = json.loads(self._send("GET", "/ledger/summary"))
        return summary

    def clear_ledger(self) -> None:
        """Removes all calls from the ledger, and resets the peak of calls in flight.

        Raises:
            BenchmarkError: the simulator does not answer.
        """
        self._send("DELETE", "/ledger")

    def peak_in_flight(self) -> int:
        """Reads the highest number of calls that were under way at one moment.

        Raises:
            BenchmarkError: the simulator does not answer.
        """
        return int(json.loads(self._send("GET", "/health"))["peak_in_flight"])

    # Synchronous: it is called between measurements, when nothing else has to go on.
    def _send(self, method: str, path: str, content: object = None) -> bytes:
        data = None if content is None else json.dumps(content).encode()
        request = urllib.request.Request(  # noqa: S310 - our own server
            self.url + path, data, {"content-type": "application/json"}, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT) as response:  # noqa: S310
                answer: bytes = response.read()
                return answer
        except urllib.error.HTTPError as error:
            with error:  # it holds the connection
                said = error.read(500).decode(errors="replace")
            raise BenchmarkError(
                f"the simulator refuses {method} {self.url}{path} with {error.code}: {said}"
            ) from error
        except OSError as error:
            raise BenchmarkError(f"the simulator does not take {method} {self.url}{path}: {error}") from error


@contextmanager
def running_simulator(*options: str) -> Iterator[SimulatorControl]:
    """Runs a simulator on a free port until the block ends.

    Args:
        options: options of ``python -m service.simulator``, beside the port.

    Raises:
        BenchmarkError: it does not start.
    """
    port = free_port()
    with running("service.simulator", ["--port", str(port), *options], {}, port, None):
        yield SimulatorControl(url_of(port))
