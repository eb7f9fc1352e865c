"""Runs a fake service on a real socket, which ranks, fails, refuses requests and has metrics."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from prometheus_client import CollectorRegistry, Histogram, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from service.catalogue.bundle import Bundle

LABELS = ("strategy", "backbone", "model", "cache", "outcome", "status")


@dataclass
class FakeService:
    """Ranks by how near an item's row is to the last row of the history; the LVLM turns its share around.

    Attributes:
        busy: how many of the next requests are answered with 429.
        unavailable: how many of the next requests are answered with 503, without a ``Retry-After``.
        turned: after so many requests every one is answered with ``turned_status``; None never.
        cache: what an LVLM answer says of the cache.
        model: the LVLM's name.
        provider: under which it is configured.
        broken: targets of the failure: requests whose candidates hold one of these ids get a 500.
        refused: strategies that are answered with 422.
        slow: seconds that a request takes.
        prefix: path below which it is served.
        lvlm_places: how many items the LVLM orders; 0 is a fallback.
        stop_after: the server goes away after so many requests; None never.
        unknown: no candidate is known.
        foreign: answers come from a backbone of another version.
        backbones: name of the backbone that answers, by strategy; toy for the others.
        wants: query parameters that a request must have, as a service that knows no other name does.
        key: that a request must bring; empty for none.
        requests: every body and query of a run.
        checks: those of the first request, which asks for one item.
    """

    bundle: Bundle
    busy: int = 0
    unavailable: int = 0
    turned: int | None = None
    turned_status: int = 503
    cache: str = "off"
    model: str = "simulator/gpt-4o"
    provider: str = "simulator"
    broken: frozenset[str] = frozenset()
    refused: frozenset[str] = frozenset()
    slow: float = 0.0
    lvlm_places: int = 3
    prefix: str = ""
    ready: bool = True
    stop_after: int | None = None
    foreign: bool = False
    backbones: dict[str, str] = field(default_factory=dict)
    unknown: bool = False
    wants: dict[str, str] = field(default_factory=dict)
    key: str = ""
    requests: list[dict[str, Any]] = field(default_factory=list)
    checks: list[dict[str, Any]] = field(default_factory=list)
    url: str = ""

    def __post_init__(self) -> None:
        self.registry = CollectorRegistry()
        self.duration = Histogram("msr_request_duration_seconds", "x", LABELS, registry=self.registry)
        self.server: uvicorn.Server | None = None

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route(f"{self.prefix}/recommend", self.recommend, methods=["POST"]),
                Route(f"{self.prefix}/metrics", lambda _: Response(generate_latest(self.registry))),
                Route(
                    f"{self.prefix}/health/ready", lambda _: Response(status_code=200 if self.ready else 503)
                ),
            ]
        )

    async def recommend(self, request: Request) -> Response:
        begun = time.perf_counter()
        body, query = await request.json(), dict(request.query_params)
        seen = self.checks if body["k"] == 1 else self.requests
        seen.append({"body": body, "query": query, "headers": dict(request.headers)})
        await asyncio.sleep(self.slow)
        if self.key and request.headers.get("x-api-key") != self.key:
            return _problem(401, "the fake wants a key")
        unknown = self._unknown(body, query)
        response, outcome = (unknown, "refused") if unknown else self._answer(body, query)
        labels = {"strategy": query["strategy"], "backbone": "toy", "model": "none", "cache": "none"}
        seconds = time.perf_counter() - begun
        self.duration.labels(**labels, outcome=outcome, status=response.status_code).observe(seconds)
        if self.stop_after is not None and len(self.requests) >= self.stop_after and self.server:
            self.server.should_exit = True
        return response

    def _answer(self, body: dict[str, Any], query: dict[str, str]) -> tuple[Response, str]:
        if self.busy and body["k"] > 1:
            self.busy -= 1
            return _problem(429, "queue full", {"Retry-After": "0"}), "busy"
        if self.unavailable and body["k"] > 1:
            self.unavailable -= 1
            return _problem(503, "starting"), "unavailable"
        if self.turned is not None and len(self.requests) > self.turned:
            return _problem(self.turned_status, "the fake has turned"), "turned"
        if query["strategy"] in self.refused:
            return _problem(422, f"{query['strategy']} needs an enhanced backbone"), "refused"
        pool = body.get("candidates") or [item.item_id for item in self.bundle.catalogue.items]
        if self.broken & set(pool):
            return _problem(500, "the fake is broken for this one"), "broken"
        return self._ranking(body, query, pool)

    def _unknown(self, body: dict[str, Any], query: dict[str, str]) -> Response | None:
        for name, value in self.wants.items():
            if query.get(name, value) != value:
                return _problem(422, f"no {name} {query[name]!r}; configured are {value}")
        return _problem(422, f"unknown candidates: {body['candidates'][0]}") if self.unknown else None

    def _ranking(self, body: dict[str, Any], query: dict[str, str], pool: list[str]) -> tuple[Response, str]:
        strategy = query["strategy"]
        backbone = query.get("backbone") or self.backbones.get(strategy, "toy")
        rows = self.bundle.catalogue.rows
        last = rows[body["history"][-1]]
        scores = {item_id: -float(abs(rows[item_id] - last)) for item_id in pool}
        order = sorted(pool, key=lambda item_id: (-scores[item_id], rows[item_id]))
        base = {item_id: place for place, item_id in enumerate(order, start=1)}
        asked = strategy not in ("none", "s2")
        placed = list(reversed(order[: self.lvlm_places])) if asked else []
        order = placed + [item_id for item_id in order if item_id not in placed]
        outcome = "ok" if placed or not asked else "fallback_answer"
        manifest = self.bundle.backbones[backbone].manifest
        answer = {
            "request_id": f"r{len(self.requests)}",
            "strategy": strategy,
            "served": strategy if placed or not asked else "none",
            "outcome": outcome,
            "backbone": {
                "name": backbone,
                "version": "other" if self.foreign else manifest.version,
                "family": manifest.family,
            },
            "items": [
                {
                    "item_id": item_id,
                    "rank": rank,
                    "score": scores[item_id],
                    "base_rank": base[item_id],
                    "source": "lvlm" if item_id in placed else backbone,
                    "title": "never recorded",
                }
                for rank, item_id in enumerate(order[: body["k"]], start=1)
            ],
            "explanation": None,
            "lvlm": self._lvlm() if asked else None,
            "warnings": [],
            "timings_ms": {"total": 1.0},
        }
        return JSONResponse(answer), outcome

    def _lvlm(self) -> dict[str, Any]:
        simulated = self.provider == "simulator"
        return {**_usage(self.model, self.cache), "provider": self.provider, "simulated": simulated}

    @contextmanager
    def running(self) -> Iterator[FakeService]:
        """Serve on a free port of the loopback interface until the block ends."""
        config = uvicorn.Config(self.app(), host="127.0.0.1", port=0, log_level="error", lifespan="off")
        self.server = uvicorn.Server(config)
        bound = config.bind_socket()
        self.url = f"http://127.0.0.1:{bound.getsockname()[1]}"
        thread = threading.Thread(target=self.server.run, kwargs={"sockets": [bound]}, daemon=True)
        thread.start()
        while not self.server.started and thread.is_alive():
            time.sleep(0.005)
        try:
            yield self
        finally:
            self.server.should_exit = True
            thread.join(10)
            bound.close()


def _usage(model: str, cache: str) -> dict[str, Any]:
    return {
        "provider": "simulator",
        "model": model,
        "simulated": True,
        "cache": cache,
        "input_tokens": 100,
        "output_tokens": 20,
        "cost_usd": 0.0,
        "estimated": False,
        "caption_calls": 0,
        "invented": 1,
        "duplicated": 0,
        "missing": 2,
    }


def _problem(status: int, detail: str, headers: dict[str, str] | None = None) -> Response:
    body = {"title": "no", "status": status, "detail": detail}
    return JSONResponse(body, status, headers, media_type="application/problem+json")
