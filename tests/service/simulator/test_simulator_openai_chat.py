"""The unmodified OpenAI SDK, strict about what it gets, against the simulator over a real socket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import openai
import pytest
from simulator_process import start_simulator
from simulator_prompts import BLUE, data_block, encoded, image_part, product

MODEL = "gpt-5.5-mini"
HELLO = [{"role": "user", "content": "hello"}]
RANKING = [
    {"role": "user", "content": data_block([{"title": "blue mug"}], ["red plate", "blue mug", "green hat"])}
]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with start_simulator() as url:
        yield url


@pytest.fixture
async def client(url: str) -> AsyncIterator[openai.AsyncOpenAI]:
    plain_http = openai.DefaultAsyncHttpxClient(verify=False)  # no certificates to load: much faster
    async with openai.AsyncOpenAI(
        api_key="key",
        base_url=f"{url}/v1",
        max_retries=0,
        _strict_response_validation=True,
        http_client=plain_http,
    ) as client:
        yield client


def schema(properties: dict[str, Any], **more: Any) -> dict[str, Any]:
    wanted = {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
        **more,
    }
    return {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": wanted}}


async def test_a_plain_answer_says_in_three_places_that_it_is_simulated(client: openai.AsyncOpenAI) -> None:
    response = await client.chat.completions.with_raw_response.create(model=MODEL, messages=HELLO)
    completion = response.parse()
    assert completion.model == f"simulator/{MODEL}"
    assert completion.system_fingerprint == "simulator"
    assert response.headers["x-msr-simulator"] == "1"
    assert completion.choices[0].message.content.startswith("Simulated answer:")


async def test_answers_carry_the_headers_that_clients_steer_by(client: openai.AsyncOpenAI) -> None:
    response = await client.chat.completions.with_raw_response.create(model=MODEL, messages=HELLO)
    headers = response.headers
    assert headers["x-request-id"].startswith("req_")
    assert int(headers["openai-processing-ms"]) >= 0
    for kind in ("requests", "tokens"):
        assert 0 < int(headers[f"x-ratelimit-remaining-{kind}"]) < int(headers[f"x-ratelimit-limit-{kind}"])
        assert headers[f"x-ratelimit-reset-{kind}"].endswith("s")


async def test_a_stream_has_the_text_and_the_usage_of_the_plain_answer(client: openai.AsyncOpenAI) -> None:
    plain = await client.chat.completions.create(model=MODEL, messages=RANKING)
    stream = await client.chat.completions.create(
        model=MODEL, messages=RANKING, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == plain.choices[0].message.content
    assert chunks[-1].usage == plain.usage
    assert plain.usage.total_tokens == plain.usage.prompt_tokens + plain.usage.completion_tokens


async def test_a_stream_is_role_then_content_then_finish_then_usage_then_done(url: str) -> None:
    body = {"model": MODEL, "messages": RANKING, "stream": True, "stream_options": {"include_usage": True}}
    async with httpx.AsyncClient(verify=False) as http:
        response = await http.post(
            f"{url}/v1/chat/completions", json=body, headers={"authorization": "Bearer key"}
        )
    assert response.headers["content-type"].startswith("text/event-stream")
    *events, end = response.text.rstrip("\n").split("\n\n")
    assert end == "data: [DONE]"
    chunks = [json.loads(event.removeprefix("data: ")) for event in events]
    role, *content, finish, usage = chunks
    assert role["choices"][0]["delta"]["role"] == "assistant"
    assert all(set(chunk["choices"][0]["delta"]) == {"content"} for chunk in content)
    assert len(content) == usage["usage"]["completion_tokens"]
    assert finish["choices"][0]["delta"] == {}
    assert finish["choices"][0]["finish_reason"] == "stop"
    assert usage["choices"] == []
    assert all(chunk["usage"] is None for chunk in chunks[:-1])
    assert len({chunk["id"] for chunk in chunks}) == 1


async def test_a_stream_without_include_usage_ends_with_its_finish_reason(client: openai.AsyncOpenAI) -> None:
    chunks = [c async for c in await client.chat.completions.create(model=MODEL, messages=HELLO, stream=True)]
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert all(chunk.usage is None for chunk in chunks)


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_longer_than_the_cap_is_cut_there_and_says_length(
    client: openai.AsyncOpenAI, stream: bool
) -> None:
    whole = await client.chat.completions.create(model=MODEL, messages=HELLO)
    answer = await client.chat.completions.create(
        model=MODEL, messages=HELLO, max_completion_tokens=3, stream=stream
    )
    if stream:
        chunks = [chunk async for chunk in answer]
        text, reason = (
            "".join(c.choices[0].delta.content or "" for c in chunks),
            chunks[-1].choices[0].finish_reason,
        )
    else:
        text, reason = answer.choices[0].message.content, answer.choices[0].finish_reason
        assert answer.usage.completion_tokens == 3
    assert reason == "length"
    assert text
    assert whole.choices[0].message.content.startswith(text)


async def test_an_answer_satisfies_the_schema_with_its_keys_in_the_schemas_order(
    client: openai.AsyncOpenAI,
) -> None:
    labels = {"type": "array", "items": {"type": "string", "enum": ["A", "B"]}}
    completion = await client.chat.completions.create(
        model=MODEL,
        messages=RANKING,
        response_format=schema(
            {"explanation": {"type": "string"}, "ranking": labels, "sure": {"type": "boolean"}}
        ),
    )
    answer = json.loads(completion.choices[0].message.content)
    assert list(answer) == ["explanation", "ranking", "sure"]
    assert sorted(answer["ranking"]) == ["A", "B"]
    assert isinstance(answer["sure"], bool)


@pytest.mark.parametrize(
    ("properties", "more", "complaint"),
    [
        ({"a": {"type": "string"}}, {"additionalProperties": True}, "additionalProperties"),
        ({"a": {"type": "string"}}, {"required": []}, "required"),
        ({"a": {"oneOf": []}}, {}, "oneOf"),
        ({"a": {"$ref": "#/$defs/nowhere"}}, {}, "references"),
        ({"a": 7}, {}, "schema"),
    ],
)
async def test_a_schema_that_strict_mode_cannot_enforce_is_refused(
    client: openai.AsyncOpenAI, properties: dict[str, Any], more: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(openai.BadRequestError, match=complaint) as refusal:
        await client.chat.completions.create(
            model=MODEL, messages=HELLO, response_format=schema(properties, **more)
        )
    assert refusal.value.code == "invalid_json_schema"


@pytest.mark.parametrize(
    ("change", "param", "code"),
    [
        ({"messages": []}, "messages", "empty_array"),
        ({"messages": None}, "messages", "missing_required_parameter"),
        ({"messages": [{"role": "wizard", "content": ""}]}, "messages[0].role", "invalid_value"),
        ({"messages": [{"role": "user", "content": 3}]}, "messages[0].content", "invalid_type"),
        ({"messages": [7]}, "messages[0]", "invalid_type"),
        (
            {"messages": [{"role": "user", "content": [{"type": "x"}]}]},
            "messages[0].content[0]",
            "invalid_value",
        ),
        ({"max_completion_tokens": 0}, "max_completion_tokens", "integer_below_min_value"),
        ({"max_completion_tokens": "9"}, "max_completion_tokens", "invalid_type"),
        ({"max_tokens": 5}, "max_tokens", "unsupported_parameter"),
        ({"max_tokens": 5, "max_completion_tokens": 5}, "max_tokens", "invalid_parameter_combination"),
        ({"stream": "yes"}, "stream", "invalid_type"),
        ({"stream_options": {"include_usage": True}}, "stream_options", None),
        ({"tools": [{"type": "function"}]}, "tools", "unsupported_parameter"),
        ({"n": 2}, "n", "unsupported_value"),
        ({"response_format": {"type": "xml"}}, "response_format", "invalid_value"),
        ({"metadata": {"strategy": 3}}, "metadata", "invalid_type"),
    ],
)
async def test_a_bad_parameter_is_refused_by_name_with_openais_code(
    client: openai.AsyncOpenAI, change: dict[str, Any], param: str, code: str | None
) -> None:
    request = {"model": MODEL, "messages": HELLO, **change}
    with pytest.raises(openai.BadRequestError) as refusal:
        await client.post("/chat/completions", cast_to=object, body=request)
    assert (refusal.value.param, refusal.value.code) == (param, code)
    assert refusal.value.type == "invalid_request_error"
    assert refusal.value.request_id.startswith("req_")


@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b"\xff\xfe", b"[" * 100_000])
async def test_a_body_that_is_no_json_object_is_refused(url: str, body: bytes) -> None:
    async with httpx.AsyncClient(verify=False) as http:
        response = await http.post(
            f"{url}/v1/chat/completions", content=body, headers={"authorization": "Bearer key"}
        )
    assert response.status_code == 400
    assert response.json()["error"]["type"] == "invalid_request_error"


async def test_a_request_without_a_key_is_unauthorised(url: str) -> None:
    async with httpx.AsyncClient(verify=False) as http:
        response = await http.post(f"{url}/v1/chat/completions", json={"model": MODEL, "messages": HELLO})
    assert response.status_code == 401
    assert "API key" in response.json()["error"]["message"]


async def test_a_picture_is_billed_by_its_real_size_and_the_models_family(client: openai.AsyncOpenAI) -> None:
    picture = encoded(product(BLUE).resize((512, 384)))
    billed = {}
    for model, detail in (("gpt-4o", "low"), ("gpt-4o", "high"), ("gpt-5.5-mini", "high")):
        messages = [{"role": "user", "content": [image_part(picture, detail=detail)]}]
        completion = await client.chat.completions.create(model=model, messages=messages)
        billed[model, detail] = completion.usage.prompt_tokens_details.image_tokens
    assert billed == {("gpt-4o", "low"): 85, ("gpt-4o", "high"): 255, ("gpt-5.5-mini", "high"): 231}


@pytest.mark.parametrize(
    ("url_text", "code"),
    [
        ("https://example.invalid/cat.jpg", "invalid_image_url"),
        ("data:image/png;base64,###", "invalid_image_format"),
        ("data:image/png;base64,aGVsbG8=", "invalid_image_format"),
    ],
)
async def test_a_picture_that_cannot_be_read_is_refused(
    client: openai.AsyncOpenAI, url_text: str, code: str
) -> None:
    content = [{"type": "image_url", "image_url": {"url": url_text}}]
    with pytest.raises(openai.BadRequestError) as refusal:
        await client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": content}])
    assert refusal.value.code == code


async def test_a_picture_cut_off_behind_its_header_is_refused(client: openai.AsyncOpenAI) -> None:
    data = encoded(product(BLUE), "PNG")
    messages = [{"role": "user", "content": [image_part(data[: len(data) // 2], "image/png")]}]
    with pytest.raises(openai.BadRequestError, match="process image"):
        await client.chat.completions.create(model=MODEL, messages=messages)


async def test_the_models_endpoint_lists_the_simulator(client: openai.AsyncOpenAI) -> None:
    assert [model.id async for model in client.models.list()] == ["simulator"]


async def test_many_concurrent_calls_get_their_own_answers(client: openai.AsyncOpenAI) -> None:
    async def top(word: str) -> str:
        block = data_block([{"title": f"{word} mug"}], ["red mug", "blue mug", "green mug"], top=1)
        completion = await client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": block}]
        )
        return json.loads(completion.choices[0].message.content)["ranking"][0]

    words = ["red", "blue", "green"] * 10
    assert await asyncio.gather(*map(top, words)) == ["A", "B", "C"] * 10
