"""Addresses and headers of a provider's requests: keys, accounts, versions, proxies."""

from __future__ import annotations

import asyncio
import json

import pytest
from lvlm_parts import connect
from refusing_server import JSON, RefusingServer, ask, connected, detailed, pictures, refusing_server, served
from scripted_server import Reply, scripted_server

from service.lvlm.cost.prices import Prices
from service.lvlm.providers.anthropic.messages import AnthropicMessages
from service.lvlm.providers.base import FailureKind, ProviderError
from service.lvlm.providers.openai.chat import OpenAIChat
from service.lvlm.providers.wire.dialect import Dialect


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
    async with refusing_server() as server:
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
    async with refusing_server() as server:
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
    async with refusing_server() as server:
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
        body = json.dumps(RefusingServer()._answer() if found else {"detail": "Not Found"}).encode()
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


@pytest.mark.parametrize("account", [True, False], ids=["OpenAI's own", "another server"])
async def test_the_account_that_the_sdks_variables_name_is_sent_to_openai_alone(
    account: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_ORG_ID", "org-1")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-1")
    monkeypatch.setenv("OPENAI_ADMIN_KEY", "admin-1")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "x-secret: 1")
    async with refusing_server() as server:
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
    async with refusing_server() as server:
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
