"""A server of either wire format that refuses the requests that a test chooses, and providers to ask it."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from service.lvlm.cost.prices import Prices
from service.lvlm.providers.anthropic.messages import AnthropicMessages
from service.lvlm.providers.base import Call, Event, Image, Prompt, Provider, Text
from service.lvlm.providers.openai.chat import OpenAIChat
from service.lvlm.providers.wire.dialect import Dialect

PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
)
SCHEMA = {"type": "object", "properties": {"ranking": {"type": "array"}}}
BLIND = Prompt("Rank.", (Text("described in words"),), SCHEMA, "test-1")
PROMPT = Prompt(
    "Rank.", (Image(PIXEL, "image/png", 1, 1), Text("shown")), SCHEMA, "test-1", without_images=lambda: BLIND
)
JSON = "application/json"

Check = Callable[[dict[str, Any]], tuple[int, object] | None]


class RefusingServer:
    """A server of both wire formats that answers every request that no check refuses.

    Attributes:
        checks: functions from a request's body to status and body of a refusal; None for no refusal.
        requests: paths, headers and bodies of the requests.
        url: address of the server.
    """

    def __init__(self, *checks: Check) -> None:
        self.checks = checks
        self.requests: list[tuple[str, dict[str, str], dict[str, Any]]] = []
        self.url = ""

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return [body for _, _, body in self.requests]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
                pairs = (line.partition(":") for line in lines)
                headers = {name.lower(): value.strip() for name, _, value in pairs}
                body = json.loads(await reader.readexactly(int(headers["content-length"])))
                self.requests.append((first.split()[1], headers, body))
                refused = next(filter(None, (check(body) for check in self.checks)), None)
                status, answer = refused or (200, self._answer())
                sent = json.dumps(answer).encode()
                head = f"HTTP/1.1 {status} X\r\ncontent-type: {JSON}\r\ncontent-length: {len(sent)}\r\n\r\n"
                writer.write(head.encode() + sent)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def _answer(self) -> dict[str, Any]:
        text = '{"ranking": ["A"]}'
        choice = {"index": 0, "message": {"content": text}, "finish_reason": "stop"}
        block = {"type": "text", "text": text}
        return {
            "choices": [choice],
            "content": [block],
            "stop_reason": "end_turn",
            "usage": {"input_tokens": 1},
        }


@asynccontextmanager
async def served(serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any]) -> AsyncIterator[str]:
    """Serves on a free loopback port, yields the URL, and waits for all connections to end."""
    serving: set[asyncio.Task[Any]] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        serving.add(task)
        await serve(reader, writer)
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    async with await asyncio.start_server(accept, "127.0.0.1", 0) as listening:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    async with asyncio.timeout(20):
        await asyncio.gather(*serving)


@asynccontextmanager
async def refusing_server(*checks: Check) -> AsyncIterator[RefusingServer]:
    server = RefusingServer(*checks)
    async with served(server.serve) as server.url:
        yield server


def connected(wire: str, url: str, dialect: Dialect | None = None) -> Provider:
    if wire == "openai":
        return OpenAIChat(
            "mine",
            api_key="k",
            image_detail=Prices.read().image_detail,
            base_url=f"{url}/v1",
            dialect=dialect,
        )
    return AnthropicMessages("mine", api_key="k", base_url=url, dialect=dialect)


async def ask(provider: Provider, model: str = "m", *, stream: bool = True) -> list[Event]:
    async with asyncio.timeout(20):
        return [event async for event in provider.stream(Call(PROMPT, model, 64, stream=stream))]


def content(body: dict[str, Any]) -> Any:
    return body["messages"][-1]["content"]


def pictures(body: dict[str, Any]) -> list[dict[str, Any]]:
    parts = content(body)
    return [part for part in parts if part["type"] != "text"] if isinstance(parts, list) else []


def detailed(body: dict[str, Any]) -> bool:
    return any("detail" in part["image_url"] for part in pictures(body))
