"""The simulator's HTTP application: both vendors' endpoints, the ledger, faults and health."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.simulator.answering import Answerer
from service.simulator.anthropic_batches import AnthropicBatches
from service.simulator.anthropic_wire import AnthropicWire
from service.simulator.batch_calls import BatchCalls
from service.simulator.batch_routes import BatchRoutes
from service.simulator.billing import Biller
from service.simulator.contracts import MARK, Wire
from service.simulator.endpoint import Endpoint
from service.simulator.faults import Faults, Script, ScriptError, read_script
from service.simulator.image_tokens import ImageRule
from service.simulator.ledger import Ledger
from service.simulator.openai_batches import OpenAIBatches
from service.simulator.openai_files import OpenAIFiles
from service.simulator.openai_wire import OpenAIWire
from service.simulator.prompt_cache import PromptCache
from service.simulator.replying import Replier
from service.simulator.responses import MarkedResponse
from service.simulator.timing import Profile


def create_app(
    profile: Profile,
    seed: int,
    image_rule: ImageRule,
    script: Script | None = None,
    *,
    prompt_cache: bool = False,
    batch_seconds: float = 2.0,
) -> Starlette:
    """Build the application.

    Args:
        profile: how long answers take.
        seed: breaks ties between equal candidates.
        image_rule: bills pictures of models of no known family on the OpenAI wire.
        script: of faults, to begin with.
        prompt_cache: bill a prompt that came before, on the OpenAI wire, as cached.
        batch_seconds: from a batch's creation to its end.
    """
    ledger = Ledger()
    faults = Faults(script, seed)
    _set_limits(ledger, faults.script)
    biller, cache = Biller(), PromptCache() if prompt_cache else None
    replier = Replier(Answerer(seed), ThreadPoolExecutor(max_workers=1), ledger, faults)
    openai, anthropic = OpenAIWire(image_rule), AnthropicWire()

    def endpoint(wire: Wire) -> Route:
        app = Endpoint(wire, profile, replier, ledger, faults, biller, cache)
        return Route(wire.path, app, methods=["POST"])

    def calls(wire: Wire) -> BatchCalls:
        return BatchCalls(wire, replier, ledger, faults, biller)

    files = OpenAIFiles()
    openai_batches = OpenAIBatches(files, calls(openai), batch_seconds)
    anthropic_batches = AnthropicBatches(calls(anthropic), batch_seconds)
    of_openai, of_anthropic = (BatchRoutes(wire, ledger, faults) for wire in (openai, anthropic))

    async def health(request: Request) -> Response:
        load = {"in_flight": ledger.in_flight, "peak_in_flight": ledger.peak_in_flight}
        return MarkedResponse({"status": "ok", "profile": profile.name, **load})

    async def models(request: Request) -> Response:
        model = {"id": "simulator", "object": "model", "created": 0, "owned_by": "msr-serve"}
        return MarkedResponse({"object": "list", "data": [model]})

    async def read_ledger(request: Request) -> Response:
        return MarkedResponse(ledger.rows())

    async def summarise_ledger(request: Request) -> Response:
        return MarkedResponse(ledger.summary())

    async def read_faults(request: Request) -> Response:
        return MarkedResponse(
            {"script": asdict(faults.script), "phase": faults.phase and asdict(faults.phase)}
        )

    async def set_faults(request: Request) -> Response:
        try:
            faults.play(read_script(await request.json()))
        except (ScriptError, ValueError) as error:
            return MarkedResponse({"error": f"not a script of faults: {error}"}, 400)
        _set_limits(ledger, faults.script)
        return Response(status_code=204, headers=MARK)

    async def clear_faults(request: Request) -> Response:
        faults.play(Script())
        _set_limits(ledger, faults.script)
        return Response(status_code=204, headers=MARK)

    async def clear_ledger(request: Request) -> Response:
        ledger.clear()
        return Response(status_code=204, headers=MARK)

    async def picture(request: Request) -> Response:
        index = request.query_params.get("index", "0")
        kept = ledger.picture(request.path_params["number"], int(index)) if index.isdecimal() else None
        if kept is None:
            return MarkedResponse({"error": "no such picture, or no longer kept"}, 404)
        return Response(kept.data, media_type=kept.media_type, headers=MARK)

    return Starlette(
        routes=[
            endpoint(openai),
            endpoint(anthropic),
            *files.routes(of_openai),
            *openai_batches.routes(of_openai),
            *anthropic_batches.routes(of_anthropic),
            Route("/v1/models", models),
            Route("/ledger", read_ledger),
            Route("/ledger", clear_ledger, methods=["DELETE"]),
            Route("/ledger/summary", summarise_ledger),
            Route("/ledger/{number:int}/picture", picture),
            Route("/faults", read_faults),
            Route("/faults", set_faults, methods=["PUT"]),
            Route("/faults", clear_faults, methods=["DELETE"]),
            Route("/health", health),
        ]
    )


def _set_limits(ledger: Ledger, script: Script) -> None:
    ledger.limit(script.requests_per_minute, script.tokens_per_minute)
