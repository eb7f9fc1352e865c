"""The contract of providers, for every class: through its real SDK, over real sockets."""

from __future__ import annotations

import asyncio
import base64
import json
import re
from collections.abc import Callable, Iterator
from contextlib import aclosing, suppress
from typing import Any

import pytest
from scripted_server import AnthropicScript, OpenAIScript, Reply, scripted_server
from simulator_process import start_simulator

from service.lvlm.cost.prices import Prices
from service.lvlm.providers.anthropic.messages import AnthropicMessages
from service.lvlm.providers.base import (
    Call,
    Event,
    FailureKind,
    Finish,
    FinishReason,
    Image,
    Prompt,
    Provider,
    ProviderError,
    Text,
    TextDelta,
    Usage,
)
from service.lvlm.providers.lazy_provider import LazyProvider
from service.lvlm.providers.openai.chat import OpenAIChat
from service.lvlm.providers.wire.dialect import Dialect

KEY = "sk-s3cr3t"
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
)
DATA = (
    '<data>\n{"history":[{"title":"Blue mug"}],"candidates":[{"label":"A","title":"Red lamp"},'
    '{"label":"B","title":"Blue mug, large"}],"order":"shuffled","top":2}\n</data>'
)
SCHEMA = {
    "type": "object",
    "properties": {"ranking": {"type": "array", "items": {"type": "string", "enum": ["A", "B"]}}},
    "required": ["ranking"],
    "additionalProperties": False,
}
PROMPT = Prompt("Rank.", (Image(PIXEL, "image/png", 1, 1), Text(DATA)), SCHEMA, "test-1")


def openai_chat(url: str, **options: Any) -> Provider:
    return OpenAIChat(
        "mine", api_key=KEY, image_detail=Prices.read().image_detail, base_url=f"{url}/v1", **options
    )


def anthropic_messages(url: str, **options: Any) -> Provider:
    return AnthropicMessages("mine", api_key=KEY, base_url=url, **options)


def late(url: str, **options: Any) -> Provider:
    return LazyProvider("mine", lambda: openai_chat(url, **options))


class Wire:
    """A provider class with what its vendor sends."""

    def __init__(self, connect: Callable[..., Provider], script: OpenAIScript | AnthropicScript) -> None:
        self.connect = connect
        self.script = script


@pytest.fixture(params=["openai", "anthropic", "late"])
def wire(request: pytest.FixtureRequest) -> Wire:
    if request.param == "late":
        return Wire(late, OpenAIScript())
    if request.param == "openai":
        return Wire(openai_chat, OpenAIScript())
    return Wire(anthropic_messages, AnthropicScript())


@pytest.fixture(scope="module")
def simulator() -> Iterator[str]:
    with start_simulator() as url:
        yield url


def call(*, stream: bool = True, model: str = "m", cap: int = 200) -> Call:
    return Call(PROMPT, model, cap, stream=stream, context={"strategy": "s3"})


async def collect(provider: Provider, asked: Call) -> list[Event]:
    try:
        return [event async for event in provider.stream(asked)]
    finally:
        await provider.close()


async def failure_of(provider: Provider, asked: Call) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        await collect(provider, asked)
    return caught.value


def text_of(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


def usage_of(events: list[Event]) -> Usage:
    return [event for event in events if isinstance(event, Usage)][-1]


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "plain"])
async def test_the_simulator_answers_through_the_real_sdk(wire: Wire, simulator: str, stream: bool) -> None:
    events = await collect(
        wire.connect(simulator, send_context=True), call(stream=stream, model="sim-gpt-4o")
    )
    assert json.loads(text_of(events)) == {"ranking": ["B", "A"]}
    finish = events[-1]
    assert finish == Finish(FinishReason.STOP, "simulator/sim-gpt-4o", simulated=True)
    assert usage_of(events).input_tokens > 0
    assert usage_of(events).output_tokens > 0


async def test_a_stream_and_a_plain_answer_report_the_same_usage(wire: Wire, simulator: str) -> None:
    streamed = await collect(wire.connect(simulator), call(stream=True))
    plain = await collect(wire.connect(simulator), call(stream=False))
    assert usage_of(streamed) == usage_of(plain)
    assert text_of(streamed) == text_of(plain)


@pytest.mark.usefixtures("clock")
async def test_text_arrives_while_the_model_still_writes(wire: Wire) -> None:
    async with scripted_server(Reply(wire.script.stream(b"first", 30.0, b"second"))) as server:
        provider = wire.connect(server.url)
        async with asyncio.timeout(5), aclosing(provider.stream(call())) as events:
            async for event in events:
                if isinstance(event, TextDelta):
                    break
        assert event == TextDelta("first")
        await provider.close()


@pytest.mark.usefixtures("clock")
async def test_closing_the_iterator_closes_the_connection(wire: Wire) -> None:
    async with scripted_server(Reply(wire.script.stream(b"first", 30.0, b"second"))) as server:
        provider = wire.connect(server.url)
        async with aclosing(provider.stream(call())) as events:
            async for event in events:
                if isinstance(event, TextDelta):
                    break
        async with asyncio.timeout(5):
            await server.disconnected.wait()
        await provider.close()


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize("pause", [0.0, 0.01], ids=["at-once", "piece-by-piece"])
async def test_calls_in_turn_use_one_connection(wire: Wire, pause: float) -> None:
    connections = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = re.search(rb"content-length: (\d+)", head)
                assert length
                await reader.readexactly(int(length[1]))
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n")
                writer.write(b"transfer-encoding: chunked\r\n\r\n")
                for piece in wire.script.stream(b'{"ranking": ["A"]}'):
                    assert isinstance(piece, bytes)
                    writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
                    await asyncio.sleep(pause)
                writer.write(b"0\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        provider = wire.connect(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        for _ in range(5):
            assert [event async for event in provider.stream(call())]
        await provider.close()
        await asyncio.sleep(0.01)
    assert connections == 1


@pytest.mark.usefixtures("clock")
async def test_cancelling_a_call_closes_the_connection(wire: Wire) -> None:
    async with scripted_server(Reply([30.0])) as server:
        provider = wire.connect(server.url)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await collect(provider, call(stream=False))
        async with asyncio.timeout(5):
            await server.disconnected.wait()


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "plain"])
async def test_an_answer_without_a_finish_reason_has_no_finish(wire: Wire, stream: bool) -> None:
    reply = (
        Reply(wire.script.stream(b"half", reason=None)) if stream else wire.script.plain("half", reason=None)
    )
    async with scripted_server(reply) as server:
        events = await collect(wire.connect(server.url), call(stream=stream))
    assert text_of(events) == "half"
    assert not any(isinstance(event, Finish) for event in events)


async def test_an_error_event_inside_a_stream_is_an_error_by_its_type(wire: Wire) -> None:
    steps = [*wire.script.stream(b"half", reason=None), wire.script.error_event()]
    async with scripted_server(Reply(steps)) as server:
        error = await failure_of(wire.connect(server.url), call())
    assert error.kind is FailureKind.OVERLOADED


STATUSES = [
    (400, "invalid_request_error", FailureKind.REQUEST, False),
    (401, "authentication_error", FailureKind.AUTHENTICATION, False),
    (403, "permission_error", FailureKind.AUTHENTICATION, False),
    (404, "not_found_error", FailureKind.REQUEST, False),
    (413, "request_too_large", FailureKind.REQUEST, False),
    (429, "rate_limit_error", FailureKind.RATE_LIMITED, True),
    (429, "insufficient_quota", FailureKind.AUTHENTICATION, False),
    (500, "api_error", FailureKind.SERVER, True),
    (504, "timeout_error", FailureKind.TIMEOUT, True),
    (529, "overloaded_error", FailureKind.OVERLOADED, True),
]


@pytest.mark.parametrize(("status", "error_type", "kind", "retryable"), STATUSES)
async def test_each_status_has_its_kind_and_is_tried_once(
    wire: Wire, status: int, error_type: str, kind: FailureKind, retryable: bool
) -> None:
    async with scripted_server(wire.script.error(status, error_type)) as server:
        error = await failure_of(wire.connect(server.url), call())
        assert len(server.requests) == 1
    assert error.kind is kind
    assert error.kind.retryable is retryable


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize(
    ("header", "value", "seconds"),
    [("retry_after", "7", 7.0), ("retry_after_ms", "250", 0.25), ("retry_after", "soon", None)],
)
async def test_retry_after_is_reported_and_not_waited_for(
    wire: Wire, header: str, value: str, seconds: float | None
) -> None:
    async with scripted_server(wire.script.error(429, "rate_limit_error", **{header: value})) as server:
        async with asyncio.timeout(5):
            error = await failure_of(wire.connect(server.url), call())
    assert error.retry_after == seconds


@pytest.mark.usefixtures("clock")
async def test_a_retry_after_date_is_the_time_until_then(wire: Wire) -> None:
    reply = wire.script.error(429, "rate_limit_error", retry_after="Fri, 31 Dec 2100 23:59:59 GMT")
    async with scripted_server(reply) as server:
        error = await failure_of(wire.connect(server.url), call())
    assert error.retry_after is not None
    assert error.retry_after > 365 * 86_400


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "plain"])
async def test_a_broken_connection_is_a_connection_failure(wire: Wire, stream: bool) -> None:
    steps = wire.script.stream(b"half", reason=None) if stream else [b'{"id"']
    async with scripted_server(Reply(steps, reset=True)) as server:
        error = await failure_of(wire.connect(server.url), call(stream=stream))
    assert error.kind is FailureKind.CONNECTION


async def test_a_server_that_is_not_there_is_unreachable(wire: Wire) -> None:
    async with scripted_server(Reply([])) as server:
        url = server.url
    error = await failure_of(wire.connect(url), call())
    assert error.kind is FailureKind.UNREACHABLE


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("text/html", b"<html>a proxy's login page</html>"),
        ("application/json", b"{not json"),
        ("application/json", b"[]"),
        ("application/json", b'{"choices": 3, "content": 3}'),
    ],
)
async def test_an_answer_of_another_shape_is_a_server_failure(
    wire: Wire, content_type: str, body: bytes
) -> None:
    async with scripted_server(Reply([body], content_type=content_type)) as server:
        error = await failure_of(wire.connect(server.url), call(stream=False))
    assert error.kind is FailureKind.SERVER


async def test_a_stream_of_another_shape_is_a_server_failure(wire: Wire) -> None:
    async with scripted_server(Reply([b"event: message_start\ndata: {not json\n\n"])) as server:
        error = await failure_of(wire.connect(server.url), call())
    assert error.kind is FailureKind.SERVER


@pytest.mark.parametrize("status", [200, 400, 401, 500])
async def test_no_error_quotes_keys_or_requests(wire: Wire, status: int) -> None:
    reply = Reply([wire.script.error_event()]) if status == 200 else wire.script.error(status, "some_error")
    async with scripted_server(reply) as server:
        error = await failure_of(wire.connect(server.url), call())
    assert KEY not in str(error)
    assert "mug" not in str(error)
    assert error.__cause__ is None
    assert error.__context__ is None or error.__suppress_context__


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "plain"])
async def test_input_tokens_include_the_cached_ones(wire: Wire, stream: bool) -> None:
    reply = Reply(wire.script.stream(b"x")) if stream else wire.script.plain("x")
    async with scripted_server(reply) as server:
        events = await collect(wire.connect(server.url), call(stream=stream))
    assert usage_of(events) == Usage(input_tokens=100, output_tokens=7, cached_input_tokens=40)


async def test_reaching_the_cap_is_reported_as_length(wire: Wire) -> None:
    async with scripted_server(Reply(wire.script.stream(b"x", reason="length"))) as server:
        events = await collect(wire.connect(server.url), call())
    assert isinstance(events[-1], Finish)
    assert events[-1].reason is FinishReason.LENGTH


async def test_a_refusal_is_reported_as_one(wire: Wire) -> None:
    async with scripted_server(Reply(wire.script.refusal())) as server:
        events = await collect(wire.connect(server.url), call())
    assert isinstance(events[-1], Finish)
    assert events[-1].reason is FinishReason.REFUSAL


async def test_a_stream_without_usage_still_finishes(wire: Wire) -> None:
    async with scripted_server(Reply(wire.script.stream(b"x", usage=False))) as server:
        events = await collect(wire.connect(server.url), call())
    assert text_of(events) == "x"
    assert isinstance(events[-1], Finish)


async def sent(
    connect: Callable[..., Provider], wire: Wire, model: str = "m", **options: Any
) -> dict[str, object]:
    """The body of the request that a call becomes."""
    async with scripted_server(Reply(wire.script.stream(b"x"))) as server:
        await collect(connect(server.url, **options), call(model=model))
        return server.requests[0].body


async def test_the_strategy_is_sent_to_the_simulator_alone(wire: Wire) -> None:
    assert "metadata" not in await sent(wire.connect, wire)
    assert "s3" in str((await sent(wire.connect, wire, send_context=True))["metadata"])


async def test_the_schema_is_sent_unless_switched_off(wire: Wire) -> None:
    assert "'ranking'" in str({**await sent(wire.connect, wire), "messages": None})
    assert "'ranking'" not in str(
        {**await sent(wire.connect, wire, dialect=Dialect(structured_output=False)), "messages": None}
    )


async def test_pictures_come_before_the_data(wire: Wire) -> None:
    body = await sent(wire.connect, wire)
    messages = body["messages"]
    assert isinstance(messages, list)
    parts = messages[-1]["content"]
    assert [part["type"] in ("image", "image_url") for part in parts] == [True, False]
    assert base64.b64encode(PIXEL).decode() in str(parts[0])
    assert parts[1]["text"] == DATA


@pytest.mark.parametrize(
    ("model", "detail"), [("gpt-4o", "low"), ("gpt-5.4-mini", "high"), ("unheard-of", "high")]
)
async def test_openai_is_always_sent_the_image_detail(model: str, detail: str) -> None:
    body = await sent(openai_chat, Wire(openai_chat, OpenAIScript()), model=model)
    messages = body["messages"]
    assert isinstance(messages, list)
    assert messages[-1]["content"][0]["image_url"]["detail"] == detail


async def test_compatible_servers_are_capped_by_the_older_name() -> None:
    wire = Wire(openai_chat, OpenAIScript())
    assert (await sent(openai_chat, wire))["max_completion_tokens"] == 200
    assert (await sent(openai_chat, wire, dialect=Dialect(output_cap="max_tokens")))["max_tokens"] == 200


async def test_a_proxy_in_the_environment_is_not_asked_for_this_machine(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    async with scripted_server(Reply(wire.script.stream(b"x"))) as server:
        assert text_of(await collect(wire.connect(server.url), call())) == "x"


async def test_one_provider_serves_many_calls_at_once(wire: Wire, simulator: str) -> None:
    provider = wire.connect(simulator)

    async def text() -> str:
        return text_of([event async for event in provider.stream(call())])

    answers = await asyncio.gather(*(text() for _ in range(20)))
    await provider.close()
    assert len(set(answers)) == 1
