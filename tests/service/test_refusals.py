"""A server that refuses a field by its name gets requests without it; any other refusal stays one."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from lvlm_parts import connect
from scripted_server import Reply, scripted_server

from service.lvlm.pricing import Prices
from service.lvlm.providers.anthropic_messages import AnthropicMessages
from service.lvlm.providers.base import (
    Call,
    Event,
    FailureKind,
    Image,
    Prompt,
    Provider,
    ProviderError,
    Source,
    Text,
    TextDelta,
)
from service.lvlm.providers.dialect import Dialect
from service.lvlm.providers.openai_chat import OpenAIChat
from service.lvlm.providers.refusals import adapted

PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
)
SCHEMA = {"type": "object", "properties": {"ranking": {"type": "array"}}}
BLIND = Prompt("Rank.", (Text("told in words"),), SCHEMA, "test-1")
PROMPT = Prompt(
    "Rank.", (Image(PIXEL, "image/png", 1, 1), Text("shown")), SCHEMA, "test-1", without_images=lambda: BLIND
)
JSON = "application/json"

Check = Callable[[dict[str, Any]], tuple[int, object] | None]


class Picky:
    """A server of either format that answers what it does not refuse.

    Attributes:
        requests: paths and bodies as they came.
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
                status, told = refused or (200, self._answer())
                sent = json.dumps(told).encode()
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
    """The URL of a server whose connections have all ended at the end."""
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
async def picky(*checks: Check) -> AsyncIterator[Picky]:
    server = Picky(*checks)
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


def error(message: str, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error", "param": param, "code": code}}


def refuses(present: Callable[[dict[str, Any]], bool], told: object, status: int = 400) -> Check:
    return lambda body: (status, told) if present(body) else None


def content(body: dict[str, Any]) -> Any:
    return body["messages"][-1]["content"]


def pictures(body: dict[str, Any]) -> list[dict[str, Any]]:
    parts = content(body)
    return [part for part in parts if part["type"] != "text"] if isinstance(parts, list) else []


def detailed(body: dict[str, Any]) -> bool:
    return any("detail" in part["image_url"] for part in pictures(body))


def forbidden(*place: str | int) -> dict[str, Any]:
    return {
        "detail": [
            {"type": "extra_forbidden", "loc": ["body", *place], "msg": "Extra inputs are not permitted"}
        ]
    }


OPENAI = {
    "schema by its field": refuses(
        lambda b: "response_format" in b, error("response_format is not supported", "response_format")
    ),
    "schema in words": refuses(
        lambda b: "response_format" in b,
        error("Invalid parameter: 'response_format' of type 'json_schema' is not supported with this model."),
    ),
    "schema by pydantic": refuses(lambda b: "response_format" in b, forbidden("response_format"), 422),
    "the newer cap": refuses(
        lambda b: "max_completion_tokens" in b, error("Unrecognized request argument: max_completion_tokens")
    ),
    "the newer cap by pydantic": refuses(
        lambda b: "max_completion_tokens" in b, forbidden("max_completion_tokens"), 422
    ),
    "usage in streams": refuses(
        lambda b: "stream_options" in b, error("Unknown parameter: 'stream_options'.", "stream_options")
    ),
    "detail by pydantic": refuses(
        detailed, forbidden("messages", 1, "content", 0, "image_url", "detail"), 422
    ),
    "detail in words": refuses(detailed, error("Extra inputs are not permitted: image_url.detail")),
    "pictures in words": refuses(lambda b: bool(pictures(b)), error("this model does not support images")),
    "pictures as OpenRouter": refuses(
        lambda b: bool(pictures(b)), error("No endpoints found that support image input"), 404
    ),
    "pictures as llama.cpp": refuses(
        lambda b: bool(pictures(b)), error("image input is not supported - hint: provide the mmproj"), 500
    ),
    "pictures as DeepSeek": refuses(
        lambda b: bool(pictures(b)),
        error(
            "Failed to deserialize the JSON body: messages[1]: unknown variant `image_url`, expected `text`"
        ),
    ),
    "a system message": refuses(
        lambda b: b["messages"][0]["role"] == "system", error("System role not supported")
    ),
    "a system message as gemma": refuses(
        lambda b: b["messages"][0]["role"] == "system",
        error("Developer or system instruction is not enabled"),
    ),
    "parts": refuses(
        lambda b: isinstance(content(b), list), error("content must be a string", "messages[1].content")
    ),
    "parts by pydantic": refuses(
        lambda b: isinstance(content(b), list),
        {
            "detail": [
                {
                    "type": "string_type",
                    "loc": ["body", "messages", 1, "content"],
                    "msg": "Input should be a valid string",
                }
            ]
        },
        422,
    ),
}
ANTHROPIC = {
    "schema": refuses(
        lambda b: "output_config" in b,
        {
            "type": "error",
            "error": {
                "type": "invalid_request_error",
                "message": "output_config: Extra inputs are not permitted",
            },
        },
    ),
    "pictures": refuses(
        lambda b: bool(pictures(b)),
        {
            "type": "error",
            "error": {"type": "invalid_request_error", "message": "This model does not support image input"},
        },
    ),
}
CASES = [
    *(("openai", check) for check in OPENAI.values()),
    *(("anthropic", check) for check in ANTHROPIC.values()),
]
NAMES = [*OPENAI, *(f"anthropic: {name}" for name in ANTHROPIC)]


@pytest.mark.parametrize(("wire", "check"), CASES, ids=NAMES)
async def test_a_refused_field_costs_one_more_call_in_a_providers_life(
    wire: str, check: Check, caplog: pytest.LogCaptureFixture
) -> None:
    async with picky(check) as server:
        provider = connected(wire, server.url)
        with caplog.at_level(logging.WARNING):
            for _ in range(3):
                events = await ask(provider)
                assert any(isinstance(event, TextDelta) for event in events)
        await provider.close()
    assert len(server.requests) == 4
    assert sum("refuses a field" in line for line in caplog.messages) == 1


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "plain"])
async def test_a_server_may_refuse_one_field_after_another(stream: bool) -> None:
    checks = [
        check
        for name, check in OPENAI.items()
        if name in ("schema in words", "the newer cap", "detail in words", "a system message")
    ]
    async with picky(*checks) as server:
        provider = connected("openai", server.url)
        for _ in range(2):
            await ask(provider, stream=stream)
        await provider.close()
    assert len(server.requests) == 6
    assert "Rank." in str(content(server.bodies[-1]))


async def test_what_one_model_refuses_is_sent_to_another() -> None:
    check = refuses(lambda b: b["model"] == "blind" and bool(pictures(b)), error("no images, unsupported"))
    async with picky(check) as server:
        provider = connected("openai", server.url)
        await ask(provider, "blind")
        await ask(provider, "seeing")
        await provider.close()
    assert [bool(pictures(body)) for body in server.bodies] == [True, False, True]


@pytest.mark.parametrize("name", ["pictures in words", "parts"])
async def test_a_server_without_pictures_is_sent_the_prompt_without_them_and_it_is_said(name: str) -> None:
    async with picky(OPENAI[name]) as server:
        provider = connected("openai", server.url)
        first, second = await ask(provider), await ask(provider)
        await provider.close()
    for events in (first, second):
        assert next(event.blind for event in events if isinstance(event, Source))
    assert "told in words" in str(content(server.bodies[-1]))
    assert "shown" not in str(content(server.bodies[-1]))


OTHERS = {
    "too long": (
        400,
        error(
            "This model's maximum context length is 8192 tokens, reduce max_completion_tokens",
            "max_completion_tokens",
            "context_length_exceeded",
        ),
    ),
    "too many tokens": (400, error("max_completion_tokens is too large: 64")),
    "a model that is not there": (404, error("The model m does not exist", None, "model_not_found")),
    "an image that cannot be read": (400, error("Image could not be processed")),
    "no reason": (400, {}),
    "a word": (400, "Bad Request"),
    "a list": (400, ["no"]),
    "another field": (400, error("metadata is not supported", "metadata")),
    "a server failure": (500, error("response_format is not supported")),
    "a limit": (429, error("response_format is not supported")),
    "an account": (401, error("response_format is not supported")),
}


@pytest.mark.parametrize(
    "refusal",
    [v for k, v in OTHERS.items() if k != "an image that cannot be read"],
    ids=[k for k in OTHERS if k != "an image that cannot be read"],
)
async def test_any_other_refusal_is_a_failure_after_one_call(refusal: tuple[int, object]) -> None:
    async with picky(lambda _: refusal) as server:
        provider = connected("openai", server.url)
        with pytest.raises(ProviderError):
            await ask(provider)
        await provider.close()
    assert len(server.requests) == 1


async def test_what_did_not_help_is_not_remembered_and_not_tried_again() -> None:
    refusal = (400, error("response_format is not supported", "response_format"))
    async with picky(lambda _: refusal) as server:
        provider = connected("openai", server.url)
        for _ in range(3):
            with pytest.raises(ProviderError) as caught:
                await ask(provider)
            assert caught.value.kind is FailureKind.REQUEST
        await provider.close()
    assert ["response_format" in body for body in server.bodies] == [True, False, True, True]


async def test_calls_at_the_same_time_learn_together() -> None:
    async with picky(OPENAI["schema in words"]) as server:
        provider = connected("openai", server.url)
        answers = await asyncio.gather(*(ask(provider) for _ in range(8)))
        await provider.close()
    assert all(any(isinstance(event, TextDelta) for event in events) for events in answers)


async def test_settings_say_beforehand_what_a_server_refuses() -> None:
    dialect = Dialect(
        output_cap="max_tokens",
        stream_options=False,
        image_detail=False,
        system_role=False,
        structured_output=False,
        headers={"X-Title": "shop"},
        query={"api-version": "2026-01-01"},
        api_key_header="api-key",
    )
    async with picky() as server:
        provider = connected("openai", server.url, dialect)
        await ask(provider)
        await provider.close()
    ((path, headers, body),) = server.requests
    assert path == "/v1/chat/completions?api-version=2026-01-01"
    assert headers["api-key"] == "k"
    assert "authorization" not in headers
    assert headers["x-title"] == "shop"
    assert body.keys() == {"model", "messages", "max_tokens", "stream"}
    assert [message["role"] for message in body["messages"]] == ["user"]
    assert not detailed(body)


async def test_a_gateway_with_a_key_header_of_its_own_serves_anthropics_format() -> None:
    async with picky() as server:
        provider = connected("anthropic", server.url, Dialect(api_key_header="x-gateway-key", images=False))
        await ask(provider)
        await provider.close()
    ((_, headers, body),) = server.requests
    assert headers["x-gateway-key"] == "k"
    assert "x-api-key" not in headers
    assert not pictures(body)


@pytest.mark.parametrize("wire", ["openai", "anthropic"])
@pytest.mark.parametrize("name", ["Authorization", "X-Api-Key"])
async def test_a_header_that_the_options_set_stays_beside_the_key_in_a_header_of_its_own(
    wire: str, name: str
) -> None:
    dialect = Dialect(api_key_header="api-key", headers={name: "Bearer of-the-gateway"})
    async with picky() as server:
        provider = connected(wire, server.url, dialect)
        await ask(provider)
        await provider.close()
    ((_, headers, _),) = server.requests
    assert headers["api-key"] == "k"
    assert headers[name.lower()] == "Bearer of-the-gateway"
    assert sum(value in ("k", "Bearer k") for value in headers.values()) == 1


async def test_a_missing_version_in_a_base_url_is_found_out_once() -> None:
    paths: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        paths.append(head.split()[1])
        found = paths[-1] == "/gateway/v1/chat/completions"
        body = json.dumps(Picky()._answer() if found else {"detail": "Not Found"}).encode()
        status = 200 if found else 404
        head = f"HTTP/1.1 {status} X\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
        writer.write(head.encode() + body)
        writer.close()

    async with served(serve) as url:
        provider = OpenAIChat(
            "mine", api_key="k", image_detail=Prices.read().image_detail, base_url=f"{url}/gateway"
        )
        for _ in range(2):
            await ask(provider)
        await provider.close()
    assert paths == ["/gateway/chat/completions", *["/gateway/v1/chat/completions"] * 2]


async def test_a_404_below_a_versioned_url_is_a_failure_after_one_call() -> None:
    async with scripted_server(Reply([b'{"detail": "Not Found"}'], 404, JSON)) as server:
        provider = connect("openai", server.url)
        with pytest.raises(ProviderError):
            await ask(provider)
        await provider.close()
        assert len(server.requests) == 1


@pytest.mark.parametrize(
    "body",
    [None, 3, [], "x", {"error": 3}, {"detail": [3, {"loc": 3}]}, {"error": {"param": 3, "message": []}}],
    ids=str,
)
def test_no_body_of_a_refusal_breaks_the_reading(body: object) -> None:
    assert adapted(Dialect(), Call(PROMPT, "m", 64), 400, body) is None


async def test_a_server_that_is_busy_when_it_is_asked_again_is_taught_later() -> None:
    busy = [False, True, False, False]

    def check(body: dict[str, Any]) -> tuple[int, object] | None:
        if busy.pop(0):
            return 503, {}
        return (400, error("response_format is not supported")) if "response_format" in body else None

    async with picky(check) as server:
        provider = connected("openai", server.url)
        with pytest.raises(ProviderError) as caught:
            await ask(provider)
        assert caught.value.kind is FailureKind.OVERLOADED
        assert any(isinstance(event, TextDelta) for event in await ask(provider))
        await provider.close()
    assert len(server.requests) == 4


@pytest.mark.parametrize("account", [True, False], ids=["OpenAI's own", "another server"])
async def test_the_account_that_the_sdks_variables_name_is_told_to_openai_alone(
    account: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_ORG_ID", "org-1")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-1")
    monkeypatch.setenv("OPENAI_ADMIN_KEY", "admin-1")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "x-secret: 1")
    async with picky() as server:
        url = f"{server.url}/v1"
        provider = OpenAIChat(
            "mine", api_key="k", image_detail=Prices.read().image_detail, base_url=url, account=account
        )
        await ask(provider)
        await provider.close()
    ((_, headers, _),) = server.requests
    assert headers["authorization"] == "Bearer k"
    assert ("org-1" in headers.values()) is account
    assert ("proj-1" in headers.values()) is account
    assert ("x-secret" in headers) is account
    assert "admin-1" not in str(headers)


@pytest.mark.parametrize("account", [True, False], ids=["Anthropic's own", "another server"])
async def test_headers_that_the_sdks_variable_names_are_sent_to_anthropic_alone(
    account: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_CUSTOM_HEADERS", "x-secret: 1")
    async with picky() as server:
        provider = AnthropicMessages("mine", api_key="k", base_url=server.url, account=account)
        await ask(provider)
        await provider.close()
    ((_, headers, _),) = server.requests
    assert ("x-secret" in headers) is account
    assert "k" in headers.get("x-api-key", headers.get("authorization", "")).split()


async def test_a_proxy_that_refuses_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async with scripted_server(Reply([b"no"], 502)) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        provider = OpenAIChat(
            "mine", api_key="k", image_detail=Prices.read().image_detail, base_url="https://vendor.example/v1"
        )
        with pytest.raises(ProviderError) as caught:
            await ask(provider)
        await provider.close()
    assert caught.value.kind is FailureKind.UNREACHABLE
