"""The unmodified Anthropic SDK, strict about what it gets, against the simulator over a real socket."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from datetime import datetime
from typing import Any

import anthropic
import httpx
import pytest
from simulator_process import start_simulator
from simulator_prompts import BLUE, data_block, encoded, image_block, product

MODEL = "claude-haiku-4-5"
HELLO = [{"role": "user", "content": "hello"}]
RANKING = [
    {"role": "user", "content": data_block([{"title": "blue mug"}], ["red plate", "blue mug", "green hat"])}
]
HEADERS = {"x-api-key": "key", "anthropic-version": "2023-06-01"}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with start_simulator() as url:
        yield url


@pytest.fixture
async def client(url: str) -> AsyncIterator[anthropic.AsyncAnthropic]:
    plain_http = anthropic.DefaultAsyncHttpxClient(verify=False)  # no certificates to load: much faster
    async with anthropic.AsyncAnthropic(
        api_key="key", base_url=url, max_retries=0, _strict_response_validation=True, http_client=plain_http
    ) as client:
        yield client


async def test_a_plain_answer_says_that_it_is_simulated(client: anthropic.AsyncAnthropic) -> None:
    response = await client.messages.with_raw_response.create(model=MODEL, max_tokens=100, messages=HELLO)
    message = await response.parse()
    assert message.model == f"simulator/{MODEL}"
    assert response.headers["x-msr-simulator"] == "1"
    assert message.content[0].text.startswith("Simulated answer:")
    assert message.stop_reason == "end_turn"


async def test_answers_carry_the_headers_that_clients_steer_by(client: anthropic.AsyncAnthropic) -> None:
    response = await client.messages.with_raw_response.create(model=MODEL, max_tokens=100, messages=HELLO)
    assert response.headers["request-id"].startswith("req_")
    for kind in ("requests", "tokens", "input-tokens", "output-tokens"):
        prefix = f"anthropic-ratelimit-{kind}"
        assert 0 < int(response.headers[f"{prefix}-remaining"]) < int(response.headers[f"{prefix}-limit"])
        assert datetime.fromisoformat(response.headers[f"{prefix}-reset"]).tzinfo is not None


async def test_a_stream_has_the_text_and_the_usage_of_the_plain_answer(
    client: anthropic.AsyncAnthropic,
) -> None:
    plain = await client.messages.create(model=MODEL, max_tokens=500, messages=RANKING)
    async with client.messages.stream(model=MODEL, max_tokens=500, messages=RANKING) as stream:
        text = "".join([piece async for piece in stream.text_stream])
        final = await stream.get_final_message()
    assert text == plain.content[0].text
    assert final.usage.output_tokens == plain.usage.output_tokens
    assert final.usage.input_tokens == plain.usage.input_tokens
    assert final.stop_reason == "end_turn"


async def test_a_stream_has_anthropics_events_in_their_order(url: str) -> None:
    body = {"model": MODEL, "max_tokens": 500, "messages": RANKING, "stream": True}
    async with httpx.AsyncClient(verify=False) as http:
        response = await http.post(f"{url}/v1/messages", json=body, headers=HEADERS)
    events = []
    for event in response.text.strip("\n").split("\n\n"):
        name, data = event.split("\n")
        events.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {events[-1]['type']}"
    kinds = [event["type"] for event in events]
    deltas = kinds.count("content_block_delta")
    assert kinds == [
        "message_start",
        "content_block_start",
        "ping",
        *["content_block_delta"] * deltas,
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert events[-2]["usage"]["output_tokens"] == deltas
    assert events[0]["message"]["usage"]["output_tokens"] <= deltas


async def test_an_answer_longer_than_the_cap_is_cut_there_and_says_max_tokens(
    client: anthropic.AsyncAnthropic,
) -> None:
    message = await client.messages.create(model=MODEL, max_tokens=2, messages=HELLO)
    assert message.stop_reason == "max_tokens"
    assert message.usage.output_tokens == 2


async def test_an_answer_satisfies_the_schema(client: anthropic.AsyncAnthropic) -> None:
    wanted = {
        "type": "object",
        "properties": {"ranking": {"type": "array", "items": {"enum": ["A", "C"]}}},
        "required": ["ranking"],
        "additionalProperties": False,
    }
    message = await client.messages.create(
        model=MODEL,
        max_tokens=500,
        messages=RANKING,
        output_config={"format": {"type": "json_schema", "schema": wanted}},
    )
    assert sorted(json.loads(message.content[0].text)["ranking"]) == ["A", "C"]


@pytest.mark.parametrize(
    ("keyword", "value"),
    [("maxItems", 3), ("minItems", 2), ("uniqueItems", True), ("additionalProperties", True)],
)
async def test_a_schema_with_what_anthropic_does_not_enforce_is_refused(
    client: anthropic.AsyncAnthropic, keyword: str, value: Any
) -> None:
    array = {"type": "array", "items": {"type": "string"}}
    wanted = {"type": "object", "properties": {"ranking": array}, "additionalProperties": False}
    (wanted if keyword == "additionalProperties" else array)[keyword] = value
    with pytest.raises(anthropic.BadRequestError, match=keyword):
        await client.messages.create(
            model=MODEL,
            max_tokens=500,
            messages=HELLO,
            output_config={"format": {"type": "json_schema", "schema": wanted}},
        )


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"max_tokens": ...}, "max_tokens: Field required"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"model": ""}, "model"),
        ({"messages": []}, "at least one message"),
        ({"messages": [{"role": "system", "content": "x"}]}, "messages.0.role"),
        ({"messages": [{"role": "user", "content": []}]}, "messages.0.content"),
        ({"messages": [{"role": "user", "content": "  "}]}, "messages.0.content.0.text"),
        ({"messages": [*HELLO, {"role": "assistant", "content": "{"}]}, "prefill"),
        ({"temperature": 0}, "temperature"),
        ({"system": 7}, "system"),
        ({"metadata": {"user_id": 7}}, "metadata.user_id"),
        ({"output_config": {"format": {"type": "xml"}}}, "output_config.format"),
        ({"stream": 1}, "stream"),
        ({"tools": [{}]}, "tools"),
    ],
)
async def test_a_bad_parameter_is_refused_by_name(
    client: anthropic.AsyncAnthropic, change: dict[str, Any], complaint: str
) -> None:
    request = {"model": MODEL, "max_tokens": 100, "messages": HELLO, **change}
    request = {name: value for name, value in request.items() if value is not ...}
    with pytest.raises(anthropic.BadRequestError, match=complaint) as refusal:
        await client.post("/v1/messages", cast_to=object, body=request)
    body = refusal.value.body
    assert isinstance(body, dict)
    assert body["type"] == "error"
    assert body["error"]["type"] == "invalid_request_error"
    assert body["request_id"] == refusal.value.request_id


@pytest.mark.parametrize(
    ("missing", "status", "kind"),
    [("x-api-key", 401, "authentication_error"), ("anthropic-version", 400, "invalid_request_error")],
)
async def test_both_of_anthropics_headers_are_required(
    url: str, missing: str, status: int, kind: str
) -> None:
    headers = {name: value for name, value in HEADERS.items() if name != missing}
    body = {"model": MODEL, "max_tokens": 9, "messages": HELLO}
    async with httpx.AsyncClient(verify=False) as http:
        response = await http.post(f"{url}/v1/messages", json=body, headers=headers)
        accepted = await http.post(f"{url}/v1/messages", json=body, headers=HEADERS)
    assert (response.status_code, response.json()["error"]["type"]) == (status, kind)
    assert accepted.status_code == 200


async def test_a_picture_is_billed_by_its_patches_of_28_pixels(client: anthropic.AsyncAnthropic) -> None:
    picture = encoded(product(BLUE).resize((512, 384)))
    text = {"type": "text", "text": "what is this"}
    without = await client.messages.create(
        model=MODEL, max_tokens=100, messages=[{"role": "user", "content": [text]}]
    )
    message = await client.messages.create(
        model=MODEL, max_tokens=100, messages=[{"role": "user", "content": [image_block(picture), text]}]
    )
    assert message.usage.input_tokens - without.usage.input_tokens == 266


@pytest.mark.parametrize(
    "source",
    [
        {"type": "url", "url": "https://example.invalid/cat.jpg"},
        {"type": "base64", "media_type": "image/tiff", "data": "aGVsbG8="},
        {"type": "base64", "media_type": "image/png", "data": "aGVsbG8="},
        {"type": "base64", "media_type": "image/png", "data": "###"},
        image_block(encoded(product(BLUE), "PNG"), "image/jpeg")["source"],
    ],
)
async def test_a_picture_that_cannot_be_read_or_is_declared_wrongly_is_refused(
    client: anthropic.AsyncAnthropic, source: dict[str, Any]
) -> None:
    messages = [{"role": "user", "content": [{"type": "image", "source": source}]}]
    with pytest.raises(anthropic.BadRequestError, match=r"messages\.0\.content\.0\.image"):
        await client.messages.create(model=MODEL, max_tokens=100, messages=messages)
