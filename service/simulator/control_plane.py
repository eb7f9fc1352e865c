"""Serves the simulator's control plane: HTTP calls about health, models, the ledger and scripts of faults."""

from __future__ import annotations

from dataclasses import asdict

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.simulator.accounting.accounts import Accounts
from service.simulator.contracts import SIMULATOR_HEADER
from service.simulator.fault_script import ScriptError, read_script
from service.simulator.faults import FaultInjector, Script
from service.simulator.wire.responses import MarkedResponse


class ControlPlane:
    """Serves the ledger, and takes scripts of faults.

    Args:
        profile: name of the latency profile.
        accounts: accounts that ``/ledger`` shows.
        faults: injector that ``/faults`` shows and sets.
    """

    def __init__(self, profile: str, accounts: Accounts, faults: FaultInjector) -> None:
        self._profile = profile
        self._accounts = accounts
        self._faults = faults

    def routes(self) -> list[Route]:
        """Lists the routes of the control plane."""
        return [
            Route("/v1/models", self._models),
            Route("/ledger", self._read_ledger),
            Route("/ledger", self._clear_ledger, methods=["DELETE"]),
            Route("/ledger/summary", self._summarise_ledger),
            Route("/ledger/{number:int}/picture", self._picture),
            Route("/faults", self._read_faults),
            Route("/faults", self._set_faults, methods=["PUT"]),
            Route("/faults", self._clear_faults, methods=["DELETE"]),
            Route("/health", self._health),
        ]

    def play(self, script: Script) -> None:
        """Begins a script of faults, and sets the limits per minute that it enforces."""
        self._faults.play(script)
        self._accounts.rate_limit.limit(script.requests_per_minute, script.tokens_per_minute)

    async def _health(self, request: Request) -> Response:
        ledger = self._accounts.ledger
        load = {"in_flight": ledger.in_flight, "peak_in_flight": ledger.peak_in_flight}
        return MarkedResponse({"status": "ok", "profile": self._profile, **load})

    async def _models(self, request: Request) -> Response:
        model = {"id": "simulator", "object": "model", "created": 0, "owned_by": "msr-serve"}
        return MarkedResponse({"object": "list", "data": [model]})

    async def _read_ledger(self, request: Request) -> Response:
        return MarkedResponse(self._accounts.ledger.rows())

    async def _summarise_ledger(self, request: Request) -> Response:
        return MarkedResponse(self._accounts.ledger.summary())

    async def _clear_ledger(self, request: Request) -> Response:
        self._accounts.ledger.clear()
        return Response(status_code=204, headers=SIMULATOR_HEADER)

    async def _picture(self, request: Request) -> Response:
        index = request.query_params.get("index", "0")
        number = request.path_params["number"]
        # An index that is no number is one that does not exist.
        kept = self._accounts.ledger.picture(number, int(index)) if index.isdecimal() else None
        if kept is None:
            return MarkedResponse({"error": "no such picture, or no longer kept"}, 404)
        return Response(kept.data, media_type=kept.media_type, headers=SIMULATOR_HEADER)

    async def _read_faults(self, request: Request) -> Response:
        # Asking for the phase advances the script, when time has ended one.
        phase = self._faults.phase
        return MarkedResponse({"script": asdict(self._faults.script), "phase": phase and asdict(phase)})

    async def _set_faults(self, request: Request) -> Response:
        try:
            self.play(read_script(await request.json()))
        except (ScriptError, ValueError) as error:
            return MarkedResponse({"error": f"not a script of faults: {error}"}, 400)
        return Response(status_code=204, headers=SIMULATOR_HEADER)

    async def _clear_faults(self, request: Request) -> Response:
        self.play(Script())
        return Response(status_code=204, headers=SIMULATOR_HEADER)
