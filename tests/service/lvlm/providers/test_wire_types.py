"""Whatever types a provider's JSON holds, an adapter yields events of the right types or a ProviderError."""

from __future__ import annotations

import json
import math
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.lvlm.providers.anthropic.messages import MessageReader
from service.lvlm.providers.base import Event, Finish, ProviderError, TextDelta, Usage
from service.lvlm.providers.openai.chat import ChatCompletionReader
from service.lvlm.providers.wire.failures import failure
from service.lvlm.providers.wire.sdk_provider import AnswerReader
from service.lvlm.providers.wire.untrusted_json import count, load, text

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([10**30, -1, 2**53, 0]),
    st.floats(allow_nan=True, allow_infinity=True),
    st.text(max_size=8),
    st.sampled_from(["text", "error", "stop", "\ud800", "text_delta", "message_start", ""]),
)
KEYS = st.sampled_from(
    [
        *(
            "choices",
            "delta",
            "message",
            "content",
            "usage",
            "error",
            "finish_reason",
            "tool_calls",
            "function",
        ),
        *("arguments", "model", "object", "refusal", "type", "text", "prompt_tokens", "completion_tokens"),
        *("prompt_tokens_details", "cached_tokens", "input_tokens", "output_tokens", "stop_reason", "code"),
        *(
            "cache_read_input_tokens",
            "content_block",
            "partial_json",
            "system_fingerprint",
            "thinking",
            "param",
        ),
    ]
)
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=6)),
    max_leaves=25,
)
CHUNK: dict[str, Any] = {
    "model": "m",
    "system_fingerprint": "f",
    "choices": [
        {
            "index": 0,
            "delta": {
                "content": [{"type": "text", "text": "x"}],
                "refusal": None,
                "tool_calls": [{"function": {"arguments": "{}"}}],
            },
            "finish_reason": "stop",
        }
    ],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 1}},
}
MESSAGE: dict[str, Any] = {
    "type": "message",
    "model": "m",
    "content": [{"type": "text", "text": "x"}, {"type": "tool_use", "input": {"a": 1}}],
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 1, "output_tokens": 1, "cache_read_input_tokens": 0},
}
EVENTS: list[dict[str, Any]] = [
    {"type": "message_start", "message": MESSAGE},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "x"}},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 1}},
    {"type": "message_stop"},
]


def paths(value: object, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Every place in a JSON value."""
    found = [path]
    if isinstance(value, dict):
        found += [each for key, inner in value.items() for each in paths(inner, (*path, key))]
    elif isinstance(value, list):
        found += [each for key, inner in enumerate(value) for each in paths(inner, (*path, key))]
    return found


def replaced(value: Any, path: tuple[str | int, ...], new: object) -> Any:
    """A JSON value with something else in one place."""
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = replaced(copy[path[0]], path[1:], new)  # type: ignore[index,call-overload]
    return copy


WHOLE = [
    (ChatCompletionReader, CHUNK),
    (MessageReader, MESSAGE),
    *((MessageReader, event) for event in EVENTS),
]
PLACES = [(reader, value, path) for reader, value in WHOLE for path in paths(value)]


def check(reader: AnswerReader, value: object, *, plain: bool) -> None:
    try:
        events: list[Event | None] = [*reader.take(value, plain=plain), reader.finish()]
    except ProviderError:
        return
    assert isinstance(reader.model, str)
    assert reader.simulated in (True, False)
    for event in events:
        if isinstance(event, TextDelta):
            event.text.encode()  # what cannot be encoded would break the answer that it ends up in
        if isinstance(event, Usage):
            counts = [getattr(event, each.name) for each in fields(event)]
            assert all(type(each) is int and 0 <= each <= 2**55 for each in counts)
        if isinstance(event, Finish):
            assert isinstance(event.model, str)


@pytest.mark.parametrize("plain", [True, False], ids=["plain", "stream"])
@given(place=st.sampled_from(PLACES), new=ANYTHING)
def test_no_value_in_any_place_breaks_an_adapter(
    plain: bool, place: tuple[Any, Any, tuple[str | int, ...]], new: object
) -> None:
    reader, value, path = place
    check(reader("asked"), replaced(value, path, new), plain=plain)


@pytest.mark.parametrize("plain", [True, False], ids=["plain", "stream"])
@given(value=ANYTHING)
def test_no_json_breaks_an_adapter(plain: bool, value: object) -> None:
    for reader in (ChatCompletionReader("asked"), MessageReader("asked")):
        check(reader, value, plain=plain)


@given(body=ANYTHING, status=st.integers(200, 599), location=st.text(max_size=30))
def test_no_error_body_breaks_the_table_of_failures(body: object, status: int, location: str) -> None:
    error = failure(status, body, {"location": location, "retry-after": location})
    assert str(error).isprintable()
    assert error.retry_after is None or error.retry_after >= 0


@pytest.mark.parametrize("value", ["-1", "nan", "inf", "1e400", "Mon, 99 Foo 99999 99:99:99 GMT", "", "١"])
def test_a_retry_after_is_seconds_from_zero_or_unknown(value: str) -> None:
    seconds = failure(429, {}, {"retry-after": value}).retry_after
    assert seconds is None or seconds >= 0


@pytest.mark.parametrize(
    ("value", "read"),
    [
        *((3, 3), (3.0, 3), (0, 0), (2**53, 2**53)),
        *((10**400, None), (-(10**400), None)),
        *((-1, None), (2.5, None), (10**30, None), (1e30, None), (math.nan, None), (math.inf, None)),
        *(("3", None), (True, None), (None, None), ([3], None), ({}, None)),
    ],
    ids=str,
)
def test_a_count_is_a_whole_number_of_sensible_size(value: object, read: int | None) -> None:
    assert count(value) == read


@pytest.mark.parametrize(
    ("data", "read"),
    [
        (b'{"a": 1}', {"a": 1}),
        (b"[NaN]", None),
        (b'"\xff"', "\ufffd"),
        (b'{"a": 1e400}', {"a": math.inf}),
        (b"1" + b"0" * 30, 1e30),
        (b"1" * 401, math.inf),
        (b"1" * 5_001, math.inf),
    ],
)
def test_json_is_read_also_as_careless_servers_write_it(data: bytes, read: object) -> None:
    value = load(data)
    assert value == read if read is not None else math.isnan(value[0])  # type: ignore[index]


@pytest.mark.parametrize("data", [b"", b"{", b"PROCESSING", b"[" * 100_000, b'{"a": ' * 50_000])
def test_what_is_no_json_is_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError, match=r".*"):
        load(data)


@given(st.text())
def test_any_text_can_be_sent_on(value: str) -> None:
    assert text(value).encode().decode() == text(value)


def test_a_lone_surrogate_is_replaced() -> None:
    assert text(json.loads('"a\\ud800b"')) == "a?b"
