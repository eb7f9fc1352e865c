"""Fakes the parts of the service that a load test uses, on a real socket, with stored events."""

from __future__ import annotations

import json
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

ITEMS = [f"I{number:03}" for number in range(100)]


@dataclass
class FakeShop:
    """Recommends the first items that the user has not taken.

    Attributes:
        enhanced: whether ``s2`` can be served.
        forgetful: recommends also what was taken, as a service that ignores events would.
        asked: strategies of all requests.
        taken: user id -> item ids.
    """

    enhanced: bool = True
    forgetful: bool = False
    asked: list[str] = field(default_factory=list)
    taken: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    url: str = ""

    def answer(self, method: str, path: str, query: dict[str, str], body: dict[str, Any]) -> tuple[int, Any]:
        if path == "/users":
            start = int(query.get("after", "-1")) + 1
            page = [{"user_id": str(number), "interactions": 1} for number in range(start, min(start + 2, 5))]
            return 200, {"users": page, "next": page[-1]["user_id"] if start + 2 < 5 else None}
        if path == "/items":
            return 200, {"items": [{"item_id": item_id} for item_id in ITEMS], "next": None}
        if path == "/events":
            for event in body["events"]:
                self.taken[event["user_id"]].append(event["item_id"])
            return 200, {"stored": len(body["events"]), "repeated": 0, "dropped": 0}
        if path.endswith("/history"):
            return 200, {"items": [{"item_id": ITEMS[int(unquote(path.split("/")[2]))]}]}
        return self.recommend(query["strategy"], body)

    def recommend(self, strategy: str, body: dict[str, Any]) -> tuple[int, Any]:
        self.asked.append(strategy)
        if strategy == "s2" and not self.enhanced:
            return 422, {"detail": "no enhanced backbone"}
        seen = body.get("history") or self.taken.get(body["user_id"]) or [ITEMS[int(body["user_id"])]]
        items = [i for i in ITEMS if self.forgetful or i not in seen][: body["k"]]
        return 200, {"strategy": strategy, "outcome": "ok", "items": [{"item_id": i} for i in items]}

    @contextmanager
    def running(self) -> Iterator[FakeShop]:
        shop = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                query = {name: values[0] for name, values in parse_qs(parts.query).items()}
                body = json.loads(self.rfile.read(int(self.headers.get("content-length", 0))) or b"{}")
                status, answer = shop.answer(self.command, parts.path, query, body)
                data = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_POST = do_GET  # noqa: N815 - the name that http.server looks for

            def log_message(self, *_: Any) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        self.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield self
        finally:
            server.shutdown()
            thread.join(10)
            server.server_close()
