"""Builds the simulator's HTTP application: both vendors' endpoints, their batches and the control plane."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from starlette.applications import Starlette
from starlette.routing import Route

from service.simulator.accounting.accounts import Accounts
from service.simulator.accounting.image_tokens import ImageRule
from service.simulator.accounting.prompt_cache import PromptCache
from service.simulator.answers.model import SimulatedModel
from service.simulator.answers.replier import Replier
from service.simulator.batches.anthropic_batches import AnthropicBatches
from service.simulator.batches.calls import BatchCalls
from service.simulator.batches.openai_batches import OpenAIBatches
from service.simulator.batches.openai_files import OpenAIFiles
from service.simulator.batches.routes import BatchRoutes
from service.simulator.contracts import Wire
from service.simulator.control_plane import ControlPlane
from service.simulator.faults import FaultInjector, Script
from service.simulator.latency_profiles import Profile
from service.simulator.wire.endpoint import Endpoint
from service.simulator.wire.wire_formats import anthropic_wire, openai_wire


def create_app(
    profile: Profile,
    seed: int,
    image_rule: ImageRule,
    script: Script | None = None,
    *,
    prompt_cache: bool = False,
    batch_seconds: float = 2.0,
) -> Starlette:
    """Builds the application.

    Args:
        profile: latency profile of the answers.
        seed: seed that breaks ties between equal candidates.
        image_rule: rule that bills pictures of models of no known family on the OpenAI wire.
        script: script of faults to begin with; None for a healthy vendor.
        prompt_cache: whether a prompt that came before is billed as cached, on the OpenAI wire.
        batch_seconds: seconds from a batch's creation to its end, in place of the vendors' day.
    """
    accounts, faults = Accounts(), FaultInjector(seed=seed)
    control_plane = ControlPlane(profile.name, accounts, faults)
    control_plane.play(script or Script())
    # One thread: describing pictures is many small steps in Python, and several threads hinder each other.
    replier = Replier(SimulatedModel(seed), ThreadPoolExecutor(max_workers=1), accounts.ledger, faults)
    openai, anthropic = openai_wire(image_rule), anthropic_wire()

    def endpoint(wire: Wire, cache: PromptCache | None = None) -> Route:
        return Route(wire.path, Endpoint(wire, profile, replier, faults, accounts, cache), methods=["POST"])

    def calls(wire: Wire) -> BatchCalls:
        return BatchCalls(wire, replier, faults, accounts)

    openai_routes, anthropic_routes = (
        BatchRoutes(wire, faults, accounts.rate_limit) for wire in (openai, anthropic)
    )
    files = OpenAIFiles()
    return Starlette(
        routes=[
            # Anthropic caches only what a request marks with cache_control, and the service marks nothing.
            endpoint(openai, PromptCache() if prompt_cache else None),
            endpoint(anthropic),
            *files.routes(openai_routes),
            *OpenAIBatches(files, calls(openai), batch_seconds).routes(openai_routes),
            *AnthropicBatches(calls(anthropic), batch_seconds).routes(anthropic_routes),
            *control_plane.routes(),
        ]
    )
