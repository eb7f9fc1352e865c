"""A server that refuses a field by name gets requests without it; any other refusal is a failure."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest
from refusing_server import PROMPT, Check, ask, connected, content, detailed, pictures, refusing_server

from service.lvlm.providers.base import Call, FailureKind, ProviderError, Source, TextDelta
from service.lvlm.providers.wire.dialect import Dialect
from service.lvlm.providers.wire.refused_fields import adapted


def error(message: str, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error", "param": param, "code": code}}


def refuses(present: Callable[[dict[str, Any]], bool], error: object, status: int = 400) -> Check:
    return lambda body: (status, error) if present(body) else None


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
    async with refusing_server(check) as server:
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
    async with refusing_server(*checks) as server:
        provider = connected("openai", server.url)
        for _ in range(2):
            await ask(provider, stream=stream)
        await provider.close()
    assert len(server.requests) == 6
    assert "Rank." in str(content(server.bodies[-1]))


async def test_what_one_model_refuses_is_sent_to_another() -> None:
    check = refuses(lambda b: b["model"] == "blind" and bool(pictures(b)), error("no images, unsupported"))
    async with refusing_server(check) as server:
        provider = connected("openai", server.url)
        await ask(provider, "blind")
        await ask(provider, "seeing")
        await provider.close()
    assert [bool(pictures(body)) for body in server.bodies] == [True, False, True]


@pytest.mark.parametrize("name", ["pictures in words", "parts"])
async def test_a_server_without_pictures_is_sent_the_prompt_without_them_and_it_is_said(name: str) -> None:
    async with refusing_server(OPENAI[name]) as server:
        provider = connected("openai", server.url)
        first, second = await ask(provider), await ask(provider)
        await provider.close()
    for events in (first, second):
        assert next(event.blind for event in events if isinstance(event, Source))
    assert "described in words" in str(content(server.bodies[-1]))
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
    async with refusing_server(lambda _: refusal) as server:
        provider = connected("openai", server.url)
        with pytest.raises(ProviderError):
            await ask(provider)
        await provider.close()
    assert len(server.requests) == 1


async def test_what_did_not_help_is_not_remembered_and_not_tried_again() -> None:
    refusal = (400, error("response_format is not supported", "response_format"))
    async with refusing_server(lambda _: refusal) as server:
        provider = connected("openai", server.url)
        for _ in range(3):
            with pytest.raises(ProviderError) as caught:
                await ask(provider)
            assert caught.value.kind is FailureKind.REQUEST
        await provider.close()
    assert ["response_format" in body for body in server.bodies] == [True, False, True, True]


async def test_calls_at_the_same_time_learn_together() -> None:
    async with refusing_server(OPENAI["schema in words"]) as server:
        provider = connected("openai", server.url)
        answers = await asyncio.gather(*(ask(provider) for _ in range(8)))
        await provider.close()
    assert all(any(isinstance(event, TextDelta) for event in events) for events in answers)


@pytest.mark.parametrize(
    "body",
    [None, 3, [], "x", {"error": 3}, {"detail": [3, {"loc": 3}]}, {"error": {"param": 3, "message": []}}],
    ids=str,
)
def test_no_body_of_a_refusal_breaks_the_reading(body: object) -> None:
    assert adapted(Dialect(), Call(PROMPT, "m", 64), 400, body) is None


async def test_what_a_server_accepts_is_learned_later_if_it_is_busy_when_asked_again() -> None:
    busy = [False, True, False, False]

    def check(body: dict[str, Any]) -> tuple[int, object] | None:
        if busy.pop(0):
            return 503, {}
        return (400, error("response_format is not supported")) if "response_format" in body else None

    async with refusing_server(check) as server:
        provider = connected("openai", server.url)
        with pytest.raises(ProviderError) as caught:
            await ask(provider)
        assert caught.value.kind is FailureKind.OVERLOADED
        assert any(isinstance(event, TextDelta) for event in await ask(provider))
        await provider.close()
    assert len(server.requests) == 4
