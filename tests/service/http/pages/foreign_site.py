"""A web site of another origin: empty pages for scripts to run on; and what the service counts meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
from service_process import RunningService


class _EmptyPage(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b"<!doctype html><title>evil</title>"
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def foreign_site() -> Iterator[int]:
    """Serves until the block ends; yields the port."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _EmptyPage)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def recommendations(service: RunningService) -> dict[str, float]:
    """The number of recommendations that the service has made, by their labels."""
    text = httpx.get(f"{service.url}/metrics").text
    lines = [line for line in text.splitlines() if line.startswith("msr_request_duration_seconds_count{")]
    return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in lines if 'status="200"' in line}
