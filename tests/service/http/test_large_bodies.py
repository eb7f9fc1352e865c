"""Tests how bodies are read: what is refused, in which words, and that the work for it is bounded."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fastapi.exceptions import RequestValidationError
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from service.http.problems import _validation_error
from service.http.routers import large_bodies
from service.http.routers.request_parsing import SMALL_BODY, read_body
from service.http.schemas import EventsBody, RecommendBody

MIB = 1_048_576
EVENT = {"user_id": "u", "item_id": "i", "timestamp": 1}


async def read(body: bytes, model: type[BaseModel]) -> BaseModel:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    return await read_body(Request({"type": "http", "state": {}}, receive), model)


async def refusal(body: bytes, model: type[BaseModel] = RecommendBody) -> dict[str, Any]:
    with pytest.raises(RequestValidationError) as refused:
        await read(body, model)
    problem: dict[str, Any] = json.loads(_validation_error(Request({"type": "http"}), refused.value).body)
    return problem


def padded(content: Any) -> bytes:
    """The JSON of a value, with white space to the length of a large body."""
    return json.dumps(content).encode() + b" " * SMALL_BODY


def filled(begin: bytes, entry: bytes, end: bytes, size: int = MIB // 4) -> bytes:
    """A body of so many bytes that repeats an entry, with its number for each #."""
    entries = []
    while size > 0:
        entries.append(entry.replace(b"#", b"%d" % len(entries)))
        size -= len(entries[-1]) + 1
    return begin + b",".join(entries) + end


HUGE = {
    "unknown fields": (RecommendBody, filled(b"{", b'"k#":1', b"}")),
    "one name again and again": (RecommendBody, filled(b"{", b'"k":1', b"}")),
    "numbers for ids": (RecommendBody, filled(b'{"history":[', b"1", b"]}")),
    "ids": (RecommendBody, filled(b'{"history":[', b'"a"', b"]}")),
    "objects for ids": (RecommendBody, filled(b'{"history":[', b"{}", b"]}")),
    "nested lists": (RecommendBody, b'{"history":' + b"[" * 500_000 + b"]" * 500_000 + b"}"),
    "nested objects": (RecommendBody, b'{"a":' * 200_000 + b"1" + b"}" * 200_000),
    "a list": (RecommendBody, filled(b"[", b"{}", b"]")),
    "empty events": (EventsBody, filled(b'{"events":[', b"{}", b"]}")),
    "an event of unknown fields": (EventsBody, filled(b'{"events":[{', b'"k#":1', b"}]}")),
    "no fields of events": (EventsBody, filled(b"{", b'"events#":[]', b"}")),
    "names of half a character": (RecommendBody, filled(b"{", b'"\\ud800#":1', b"}")),
}


@pytest.mark.parametrize("what", HUGE)
async def test_a_body_of_too_many_values_is_refused_before_it_is_parsed(
    what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(large_bodies.orjson, "loads", lambda _: pytest.fail("it was parsed"))
    model, body = HUGE[what]
    problem = await refusal(body, model)
    assert "more than 10000 values" in problem["detail"]
    assert [error["field"] for error in problem["errors"]] == ["body"]


@pytest.mark.parametrize(
    "body",
    [
        b'{"k":' + b"9" * MIB + b"}",
        b'{"user_id":"' + b"\\ud800" * 100_000 + b'"}',
        b'{"user_id":"' + b"a" * MIB + b'"}',
        b'{"' + b"a" * MIB + b'":1}',
        b"[" * 60_000,
        b"\xff" * MIB,
        b"x" * MIB,
        b" " * MIB,
    ],
    ids=range(8),
)
async def test_a_large_body_of_few_values_is_refused_with_one_fault(body: bytes) -> None:
    problem = await refusal(body)
    assert problem["status"] == 422
    assert len(problem["errors"]) == 1


async def test_a_list_of_ids_is_refused_at_its_first_fault() -> None:
    problem = await refusal(json.dumps({"history": ["a", *range(1_999)], "exclude": [""] * 2_000}).encode())
    assert [error["field"] for error in problem["errors"]] == ["body.history.1", "body.exclude.0"]


async def test_separators_inside_of_texts_are_no_values() -> None:
    ids = ['",[{\\"' * 10 + str(number) for number in range(2_000)]
    read_model = await read(json.dumps({"history": ids}).encode(), RecommendBody)
    assert isinstance(read_model, RecommendBody)
    assert read_model.history == ids


@pytest.mark.parametrize("size", ["small", "large"])
async def test_of_many_unknown_fields_the_first_twenty_are_named_and_the_rest_counted(size: str) -> None:
    content = {f"k{number}": 1 for number in range(200)}
    problem = await refusal(json.dumps(content).encode() if size == "small" else padded(content))
    assert problem["detail"] == "body.k0: Extra inputs are not permitted and 199 more"
    assert [error["field"] for error in problem["errors"]] == [f"body.k{number}" for number in range(20)]


async def test_unknown_fields_of_events_are_named_by_their_place() -> None:
    problem = await refusal(padded({"events": [EVENT, {**EVENT, "when": 1}]}), EventsBody)
    assert problem["detail"] == "body.events.1.when: Extra inputs are not permitted"


async def test_pydantic_is_not_asked_about_a_large_body_of_unknown_fields(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(RecommendBody, "model_validate", lambda _: pytest.fail("it was asked"))
    assert (await refusal(padded({"history": ["a"], "hsitory": ["a"]})))["errors"]


@pytest.mark.parametrize(
    ("model", "content", "sentence"),
    [
        (
            RecommendBody,
            {"history": ["a"] * 2_500},
            "at most 2000 are taken, 2500 came: send the newest 2000",
        ),
        (
            RecommendBody,
            {"exclude": ["a"] * 2_001},
            "at most 2000 are taken, 2001 came: send the newest 2000",
        ),
        (RecommendBody, {"candidates": ["a"] * 101}, "at most 100 are taken, 101 came: send the best 100"),
        (EventsBody, {"events": [EVENT] * 1_001}, "at most 1000 are taken, 1001 came: send them in batches"),
    ],
    ids=["history", "exclude", "candidates", "events"],
)
async def test_a_list_over_its_limit_is_refused_with_the_limit_and_what_to_do(
    model: type[BaseModel], content: dict[str, Any], sentence: str
) -> None:
    (field,) = content
    assert (await refusal(json.dumps(content).encode(), model))["detail"].startswith(
        f"body.{field}: {sentence}"
    )


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-10, 10) | st.floats(-2, 2) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
NAMES = ("user_id", "history", "candidates", "exclude", "include_seen", "k", "deadline_ms", "events")


@settings(max_examples=40)
@given(
    content=VALUES
    | st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=4)
    | st.fixed_dictionaries(
        {"events": st.lists(VALUES | st.fixed_dictionaries(dict.fromkeys(EVENT, VALUES)), max_size=4)}
    )
)
async def test_a_body_is_read_alike_whatever_parses_it(content: Any) -> None:
    for model in (RecommendBody, EventsBody):
        answers = []
        for body in (json.dumps(content).encode(), padded(content)):
            try:
                answers.append((await read(body, model)).model_dump())
            except RequestValidationError as error:
                answers.append([(fault["loc"], fault["msg"]) for fault in error.errors()])
        small, large = answers
        # In a large body unknown fields are told alone.
        if isinstance(large, list) and any(message == large_bodies.UNKNOWN for _, message in large):
            assert set(large) == {fault for fault in small if fault[1] == large_bodies.UNKNOWN}
        else:
            assert large == small


def test_an_unknown_field_is_told_in_pydantics_words() -> None:
    with pytest.raises(ValidationError, match=large_bodies.UNKNOWN):
        RecommendBody.model_validate({"zz": 1})
