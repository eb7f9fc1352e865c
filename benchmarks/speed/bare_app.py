"""Serves recommendations with as little code as possible, to compare the service's HTTP with.

This FastAPI app parses the same JSON and runs the same model in the same bounded executor, on the same
server, with no validation, no exclusions, no strategies, no metrics, no logs and no error handling.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import orjson
import uvicorn
from fastapi import FastAPI, Request, Response

from service.candidates.sequence import SequenceModel
from service.catalogue.bundle import open_bundle
from service.executor import BoundedExecutor

THREADS, QUEUE = 2, 128
"""Threads of the executor, as in the service, and calls that may wait for one; further calls are refused."""


def create_bare_app(bundle_folder: Path, backbone: str) -> FastAPI:
    """Makes the app."""
    bundle = open_bundle(bundle_folder)
    items, rows = bundle.catalogue.items, bundle.catalogue.rows
    model = SequenceModel(bundle.backbones[backbone])
    executor = BoundedExecutor(THREADS, QUEUE)
    # Without an OpenAPI document, which is not measured.
    app = FastAPI(openapi_url=None)

    @app.post("/recommend")
    async def recommend(request: Request) -> Response:
        body = orjson.loads(await request.body())
        history = [rows[item_id] for item_id in body["history"]]
        best, scores = await executor.run(model.top, None, history, body["k"], ())
        ranked = [
            {"item_id": items[row].item_id, "score": score, "title": items[row].name}
            for row, score in zip(best, scores, strict=True)
        ]
        return Response(orjson.dumps({"items": ranked}), media_type="application/json")

    return app


def main() -> None:
    """Serves on the loopback interface until it is stopped."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--backbone", required=True)
    parser.add_argument("--port", type=int, required=True)
    arguments = parser.parse_args()
    app = create_bare_app(arguments.bundle, arguments.backbone)
    uvicorn.run(
        app, host="127.0.0.1", port=arguments.port, log_config=None, access_log=False, server_header=False
    )


if __name__ == "__main__":
    main()
