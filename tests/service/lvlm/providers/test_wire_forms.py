"""One answer in all the ways in which servers wrap it, read through the real SDKs over real sockets."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from typing import Any

import pytest
from lvlm_parts import connect
from scripted_server import Reply, scripted_server

from service.lvlm.providers.base import (
    Call,
    Event,
    FailureKind,
    Finish,
    FinishReason,
    Prompt,
    ProviderError,
    Source,
    Text,
    TextDelta,
    Usage,
)

ANSWER = '{"ranking": ["B", "A"]}'
USAGE = {"prompt_tokens": 100, "completion_tokens": 7}
PROMPT = Prompt("Rank.", (Text("data"),), None, "test-1")
JSON = "application/json"


async def answered(wire: str, reply: Reply, *, stream: bool = True) -> list[Event]:
    """The events of one call."""
    async with scripted_server(reply) as server:
        provider = connect(wire, server.url)
        try:
            async with asyncio.timeout(20):
                return [event async for event in provider.stream(Call(PROMPT, "m", 200, stream=stream))]
        finally:
            await provider.close()


async def failed(wire: str, reply: Reply, *, stream: bool = True) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        await answered(wire, reply, stream=stream)
    return caught.value


def text_of(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


def finish_of(events: list[Event]) -> FinishReason | None:
    return next((event.reason for event in events if isinstance(event, Finish)), None)


def chunk(content: object = None, reason: object = None, **more: object) -> bytes:
    delta = {} if content is None else {"content": content}
    choice = {"index": 0, "delta": {**delta, **more}, "finish_reason": reason}
    return json.dumps({"model": "m", "choices": [choice]}).encode()


def sse(*data: bytes, end: bytes = b"\n\n", field: bytes = b"data: ") -> list[bytes]:
    return [field + each + end for each in data]


def completion(message: dict[str, Any], reason: object = "stop", **more: object) -> Reply:
    body = {
        "model": "m",
        "choices": [{"index": 0, "message": message, "finish_reason": reason}],
        "usage": USAGE,
    }
    return Reply([json.dumps({**body, **more}).encode()], content_type=JSON)


def message(content: list[dict[str, Any]], reason: object = "end_turn") -> Reply:
    usage = {"input_tokens": 100, "output_tokens": 7}
    body = {"type": "message", "model": "m", "content": content, "stop_reason": reason, "usage": usage}
    return Reply([json.dumps(body).encode()], content_type=JSON)


HALVES = (chunk(ANSWER[:9]), chunk(ANSWER[9:]), chunk(reason="stop"), b"[DONE]")
PARTS = [{"type": "thinking", "thinking": "A?"}, {"type": "text", "text": ANSWER}]
CALLS = [{"index": 0, "function": {"name": "answer", "arguments": ANSWER}}]
WHOLE = json.loads(completion({"content": ANSWER}).steps[0])

STREAMS = {
    "as vendors do": sse(*HALVES),
    "CR LF": sse(*HALVES, end=b"\r\n\r\n"),
    "CR": sse(*HALVES, end=b"\r\r"),
    "CR, LF and LF apart": [
        piece for step in sse(*HALVES, end=b"\r\n\n") for piece in (step[:-2], step[-2:-1], step[-1:])
    ],
    "CR LF cut in two": [piece for step in sse(*HALVES, end=b"\r\n\r\n") for piece in (step[:-3], step[-3:])],
    "no blank lines": sse(*HALVES, end=b"\n"),
    "no space": sse(*HALVES, field=b"data:"),
    "a byte order mark": [b"\xef\xbb\xbf", *sse(*HALVES)],
    "a byte order mark cut in two": [b"\xef", b"\xbb\xbf" + sse(*HALVES)[0], *sse(*HALVES)[1:]],
    "white space first": [b"\n \n", *sse(*HALVES)],
    "comments": [b": PROCESSING\n\n", *sse(*HALVES)],
    "keep-alives that are no JSON": [*sse(b": PROCESSING", b"ping"), *sse(*HALVES)],
    "names, ids and retry": [b"event: message\nid: 1\nretry: 10\n" + step for step in sse(*HALVES)],
    "white space around the end": [*sse(*HALVES[:-1]), b"data:  [DONE]  \n\n"],
    "no end": sse(*HALVES[:-1]),
    "one byte at a time": [bytes([byte]) for step in sse(*HALVES) for byte in step],
    "parts": sse(chunk(PARTS, "stop")),
    "a part a piece": sse(chunk([{"type": "text", "text": ANSWER[:5]}]), chunk([ANSWER[5:]], "stop")),
    "a tool's arguments": sse(chunk(tool_calls=CALLS), chunk(reason="tool_calls")),
    "a message in the place of a delta": sse(json.dumps(WHOLE).encode()),
    "a second choice": sse(
        json.dumps(
            {
                "choices": [
                    {"index": 0, "delta": {"content": ANSWER}, "finish_reason": "stop"},
                    {"index": 1, "delta": {"content": "junk"}, "finish_reason": "stop"},
                ]
            }
        ).encode()
    ),
    "an unknown reason": sse(chunk(ANSWER, "eos_token")),
    "a reason on every chunk": sse(chunk(ANSWER[:9], "stop"), chunk(ANSWER[9:], "stop"), b"[DONE]"),
    "a null in words": sse(chunk(ANSWER[:9], "null"), chunk(ANSWER[9:], "null"), chunk(reason="stop")),
    "a tool's arguments as they are": sse(
        chunk(tool_calls=[{"function": {"arguments": json.loads(ANSWER)}}], reason="tool_calls")
    ),
    "a function's arguments": sse(chunk(function_call={"arguments": ANSWER}, reason="function_call")),
    "one part": sse(chunk({"type": "text", "text": ANSWER}, "stop")),
    "a part of no type": sse(chunk([{"type": None, "text": ANSWER}], "stop")),
    "a thought among the parts": sse(
        chunk([{"type": "text", "text": "A?", "thought": True}, {"type": "text", "text": ANSWER}], "stop")
    ),
    "an empty choice before it": sse(
        json.dumps(
            {"choices": [{}, {"index": 0, "delta": {"content": ANSWER}, "finish_reason": "stop"}]}
        ).encode()
    ),
    "one JSON object": [json.dumps(WHOLE).encode()],
    "one JSON object, indented": [b"\n\n" + json.dumps(WHOLE, indent=2).encode()],
}


@pytest.mark.parametrize("steps", STREAMS.values(), ids=STREAMS.keys())
async def test_every_wrapping_of_a_stream_holds_the_same_answer(steps: list[bytes]) -> None:
    events = await answered("openai", Reply(steps))
    assert text_of(events) == ANSWER
    assert finish_of(events) is FinishReason.STOP


PLAIN = {
    "as vendors do": completion({"content": ANSWER}),
    "parts": completion({"content": PARTS}),
    "a tool's arguments": completion({"content": None, "tool_calls": CALLS}, "tool_calls"),
    "an empty error": completion({"content": ANSWER}, error=None),
    "a stream": Reply(sse(*HALVES)),
}


@pytest.mark.parametrize("reply", PLAIN.values(), ids=PLAIN.keys())
async def test_every_wrapping_of_a_plain_reply_holds_the_same_answer(reply: Reply) -> None:
    events = await answered("openai", reply, stream=False)
    assert text_of(events) == ANSWER
    assert finish_of(events) is FinishReason.STOP


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "plain"])
@pytest.mark.parametrize(
    "content",
    [
        [{"type": "text", "text": ANSWER}],
        [
            {"type": "thinking", "thinking": "A?"},
            {"type": "text", "text": ANSWER[:4]},
            {"type": "text", "text": ANSWER[4:]},
        ],
        [{"type": "tool_use", "name": "answer", "input": json.loads(ANSWER)}],
    ],
    ids=["text", "thoughts and two texts", "a tool's input"],
)
async def test_a_message_that_comes_whole_is_read_whether_or_not_a_stream_was_asked_for(
    stream: bool, content: list[dict[str, Any]]
) -> None:
    events = await answered("anthropic", message(content), stream=stream)
    assert text_of(events) == ANSWER
    assert finish_of(events) is FinishReason.STOP
    assert Usage(100, 7) in events


@pytest.mark.parametrize("reason", [None, "", "  ", 7, ["stop"]], ids=str)
@pytest.mark.parametrize("done", [True, False], ids=["done", "no done"])
async def test_what_is_no_finish_reason_is_none(reason: object, done: bool) -> None:
    steps = sse(chunk(ANSWER), chunk(reason=reason), *([b"[DONE]"] if done else []))
    assert finish_of(await answered("openai", Reply(steps))) is None
    assert finish_of(await answered("openai", completion({"content": ANSWER}, reason), stream=False)) is None
    assert finish_of(await answered("anthropic", message([{"type": "text", "text": ANSWER}], reason))) is None


ERRORS: dict[str, tuple[object, FailureKind]] = {
    "an overload": ({"error": {"type": "overloaded_error", "message": "m"}}, FailureKind.OVERLOADED),
    "a limit": ({"error": {"code": 429, "message": "m"}}, FailureKind.RATE_LIMITED),
    "a key": ({"error": {"code": "invalid_api_key"}}, FailureKind.AUTHENTICATION),
    "a word": ({"error": "model is loading"}, FailureKind.SERVER),
    "vLLM's": ({"object": "error", "message": "m", "code": 400}, FailureKind.REQUEST),
    "beside an answer": ({**WHOLE, "error": {"code": 503}}, FailureKind.OVERLOADED),
    "in a choice": (
        {"choices": [{"finish_reason": "error", "error": {"code": 529}}]},
        FailureKind.OVERLOADED,
    ),
}


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "plain"])
@pytest.mark.parametrize(("body", "kind"), ERRORS.values(), ids=ERRORS.keys())
async def test_an_error_inside_a_200_is_an_error_of_its_own_kind(
    body: object, kind: FailureKind, stream: bool
) -> None:
    reply = (
        Reply(sse(json.dumps(body).encode()))
        if stream
        else Reply([json.dumps(body).encode()], content_type=JSON)
    )
    assert (await failed("openai", reply, stream=stream)).kind is kind


async def test_anthropics_error_inside_a_200_is_an_error_of_its_own_kind() -> None:
    body = {"type": "error", "error": {"type": "rate_limit_error", "message": "m"}}
    reply = Reply([json.dumps(body).encode()], content_type=JSON)
    assert (await failed("anthropic", reply, stream=False)).kind is FailureKind.RATE_LIMITED


async def test_a_bare_error_in_the_middle_of_a_stream_is_one() -> None:
    steps = [*sse(chunk("ab")), b'{"error": {"code": 503}}\n']
    assert (await failed("openai", Reply(steps))).kind is FailureKind.OVERLOADED


async def test_a_stream_of_keep_alives_alone_is_no_answer() -> None:
    error = await failed("openai", Reply(sse(b"PROCESSING", b"PROCESSING")))
    assert error.kind is FailureKind.SERVER


@pytest.mark.parametrize("wire", ["openai", "anthropic"])
async def test_the_answering_model_is_known_before_the_first_text(wire: str) -> None:
    model = "simulator/sim"
    first = (
        json.dumps({"model": model, "choices": [{"delta": {"content": "x"}}]}).encode()
        if wire == "openai"
        else json.dumps({"type": "message_start", "message": {"model": model}}).encode()
    )
    events = await answered(wire, Reply(sse(first)))
    before = events[: next((n for n, e in enumerate(events) if isinstance(e, TextDelta)), len(events))]
    assert Source(model, simulated=True) in before


async def test_the_simulators_mark_is_read_from_the_head() -> None:
    async with scripted_server(Reply([30.0], headers={"x-msr-simulator": "1"})) as server:
        provider = connect("openai", server.url)
        events = provider.stream(Call(PROMPT, "m", 200))
        async with asyncio.timeout(10):
            assert await anext(aiter(events)) == Source("m", simulated=True)
        await events.aclose()  # type: ignore[attr-defined]
        await provider.close()


async def test_an_answer_that_is_complete_does_not_wait_for_a_server_that_stays() -> None:
    usage = json.dumps({"choices": [], "usage": USAGE}).encode()
    events = await answered("openai", Reply([*sse(*HALVES[:-1], usage), 60.0]))
    assert text_of(events) == ANSWER


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        *(
            ("MAX_TOKENS", FinishReason.LENGTH),
            ("LENGTH", FinishReason.LENGTH),
            ("SAFETY", FinishReason.REFUSAL),
        ),
        *(("abort", None), ("cancelled", None), ("null", None), ("eos", FinishReason.STOP)),
    ],
)
async def test_a_finish_reason_is_mapped_by_its_name(value: str, reason: FinishReason | None) -> None:
    assert finish_of(await answered("openai", Reply(sse(chunk(ANSWER, value))))) is reason
    block = [{"type": "text", "text": ANSWER}]
    assert finish_of(await answered("anthropic", message(block, value))) is reason


async def test_a_message_in_one_event_is_read() -> None:
    value = message([{"type": "tool_use", "input": json.loads(ANSWER)}]).steps[0]
    assert isinstance(value, bytes)
    assert text_of(await answered("anthropic", Reply(sse(value)))) == ANSWER


async def test_a_text_that_is_complete_does_not_wait_for_a_server_that_never_says_so() -> None:
    call = Call(PROMPT, "m", 200, complete=lambda text: text == ANSWER)
    async with scripted_server(Reply([*sse(chunk(ANSWER[:9]), chunk(ANSWER[9:])), 60.0])) as server:
        provider = connect("openai", server.url)
        async with asyncio.timeout(30):
            events = [event async for event in provider.stream(call)]
        await provider.close()
    assert text_of(events) == ANSWER


@pytest.mark.parametrize("body", [b"OK", b"null", b'"hi"', b"", "nein, später".encode("utf-16")], ids=repr)
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "plain"])
async def test_a_200_that_is_no_answer_is_a_server_failure(body: bytes, stream: bool) -> None:
    error = await failed("openai", Reply([body], content_type=JSON), stream=stream)
    assert error.kind is FailureKind.SERVER


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip", "deflate"])
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "plain"])
async def test_a_body_that_is_compressed_without_being_asked_for_is_read(encoding: str, stream: bool) -> None:
    body = b"".join(sse(*HALVES)) if stream else completion({"content": ANSWER}).steps[0]
    assert isinstance(body, bytes)
    packed = (
        zlib.compress(body) if encoding == "deflate" else gzip.compress(body[:20]) + gzip.compress(body[20:])
    )
    steps = [packed[:7], packed[7:]]
    reply = Reply(steps, content_type=JSON, headers={"content-encoding": encoding})
    assert text_of(await answered("openai", reply, stream=stream)) == ANSWER


@pytest.mark.parametrize(
    ("encoding", "body"), [("br", b"x"), ("gzip", b"no gzip at all"), ("gzip, gzip", b"x")]
)
async def test_a_body_that_cannot_be_unpacked_is_a_server_failure(encoding: str, body: bytes) -> None:
    reply = Reply([body], content_type=JSON, headers={"content-encoding": encoding})
    assert (await failed("openai", reply)).kind is FailureKind.SERVER


@pytest.mark.parametrize("wire", ["openai", "anthropic"])
async def test_no_cookie_is_kept(wire: str) -> None:
    reply = Reply(sse(*HALVES), headers={"set-cookie": "session=s3cr3t; Path=/"})
    async with scripted_server(reply) as server:
        provider = connect(wire, server.url)
        for _ in range(2):
            [event async for event in provider.stream(Call(PROMPT, "m", 200))]
        await provider.close()
        assert all("cookie" not in request.headers for request in server.requests)


@pytest.mark.parametrize("wire", ["openai", "anthropic"])
@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_redirect_is_not_followed_and_names_the_new_address(wire: str, status: int) -> None:
    reply = Reply([b""], status, JSON, {"location": "https://user:s3cr3t@new.example:8443/v1/x?key=s3cr3t"})
    error = await failed(wire, reply)
    assert error.kind is FailureKind.REQUEST
    assert "https://new.example:8443/v1/x" in str(error)
    assert "pw" not in str(error)
    assert "s3cr3t" not in str(error)
