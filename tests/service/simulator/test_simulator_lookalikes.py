"""The simulator writes a good answer as servers do that only resemble a vendor; the tests read its bytes."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from simulator_process import start_simulator
from simulator_prompts import data_block

from service.simulator.faults import LOOKALIKES, NO_SCHEMA, USAGES

PATHS = {"openai": "/v1/chat/completions", "anthropic": "/v1/messages"}
HEADERS = {"authorization": "Bearer k", "anthropic-version": "2023-06-01"}
TITLES = ["Red mug", "Blue lamp", "Green bowl", "White vase", "Black tray"]
SCHEMA = {
    "type": "object",
    "properties": {"ranking": {"type": "array", "items": {"type": "string"}}},
    "required": ["ranking"],
    "additionalProperties": False,
}
BILLED = ("prompt_tokens", "completion_tokens", "input_tokens", "output_tokens")


@dataclass
class Told:
    """What came, and the simulator's entry for it.

    Attributes:
        texts: pieces of the answer, by where they stood: ``text``, ``tool`` or ``thought``.
        reasons: why it ended, as far as that was told.
        usage: every count that was told.
        keepalives: events that are no JSON.
    """

    response: httpx.Response
    row: dict[str, Any]
    texts: dict[str, str] = field(default_factory=lambda: {"text": "", "tool": "", "thought": ""})
    reasons: list[str] = field(default_factory=list)
    usage: list[object] = field(default_factory=list)
    errors: list[object] = field(default_factory=list)
    keepalives: int = 0

    @property
    def entries(self) -> list[str]:
        """The ranking."""
        found: list[str] = json.loads(self.texts["text"] or self.texts["tool"])["ranking"]
        return found


@pytest.fixture(scope="module")
def simulator() -> Iterator[str]:
    with start_simulator(profile="instant") as url:
        yield url


def tell(simulator: str, fault: str, wire: str, *, stream: bool, schema: bool = False) -> Told:
    """Ask once under a fault, and read what comes."""
    block = data_block([{"title": "Red vase"}], TITLES, top=4)
    body: dict[str, Any] = {
        "model": "gpt-4o",
        "max_tokens": 500,
        "messages": [{"role": "user", "content": block}],
        "stream": stream,
    }
    if wire == "openai" and stream:
        body["stream_options"] = {"include_usage": True}
    if schema and wire == "openai":
        wanted = {"name": "answer", "strict": True, "schema": SCHEMA}
        body["response_format"] = {"type": "json_schema", "json_schema": wanted}
    if schema and wire == "anthropic":
        body["output_config"] = {"format": {"type": "json_schema", "schema": SCHEMA}}
    with httpx.Client(base_url=simulator, trust_env=False) as http:
        http.delete("/ledger")
        http.put("/faults", json={"phases": [{"fault": fault}]})
        response = http.post(PATHS[wire], json=body, headers=HEADERS)
        row = http.get("/ledger").json()[-1]
        while row["outcome"] == "running":  # the last byte comes before the bill
            row = http.get("/ledger").json()[-1]
        told = Told(response, row)
    content = response.content.removeprefix(b"\xef\xbb\xbf")
    if response.headers["content-type"] == "application/json":
        contents = [json.loads(content)]
    else:
        contents = list(_events(content.replace(b"\r", b"\n"), told))
    for each in contents:
        (_hear_openai if wire == "openai" else _hear_anthropic)(each, told)
    return told


def _events(content: bytes, told: Told) -> Iterator[dict[str, Any]]:
    for block in content.split(b"\n\n"):
        data = block.rpartition(b"data: ")[2]
        if data.startswith(b"{"):
            yield json.loads(data)
        elif data and data != b"[DONE]" and not block.startswith(b":"):
            told.keepalives += 1


def _hear_openai(content: dict[str, Any], told: Told) -> None:
    told.errors += [content["error"]] if "error" in content else []
    told.usage += [content["usage"][name] for name in BILLED if name in (content.get("usage") or {})]
    for choice in content.get("choices", ()):
        said = choice.get("delta") or choice["message"] if "message" in choice else choice["delta"]
        told.reasons += [choice["finish_reason"]] if choice["finish_reason"] else []
        parts = said.get("content") or []
        for part in [{"type": "text", "text": parts}] if isinstance(parts, str) else parts:
            told.texts["thought" if part["type"] == "thinking" else "text"] += str(
                part[part["type"]] if part["type"] == "text" else "thought"
            )
        for call in said.get("tool_calls") or ():
            told.texts["tool"] += call["function"]["arguments"]


def _hear_anthropic(content: dict[str, Any], told: Told) -> None:
    told.errors += [content["error"]] if "error" in content else []
    for usage in (content.get("usage"), content.get("message", {}).get("usage")):
        told.usage += [usage[name] for name in BILLED if name in (usage or {})]
    reason = content.get("stop_reason") or content.get("delta", {}).get("stop_reason")
    told.reasons += [reason] if reason else []
    for block in content.get("content", ()):
        kind = {"thinking": "thought", "tool_use": "tool"}.get(block["type"], "text")
        said = block.get("text") or block.get("thinking") or json.dumps(block.get("input"))
        told.texts[kind] += said
    match content.get("delta", {}):
        case {"type": "text_delta", "text": text}:
            told.texts["text"] += text
        case {"type": "input_json_delta", "partial_json": text}:
            told.texts["tool"] += text
        case {"type": "thinking_delta", "thinking": text}:
            told.texts["thought"] += text


ways = pytest.mark.parametrize(
    ("wire", "stream"), [(wire, stream) for wire in PATHS for stream in (True, False)]
)
GOOD = tuple(fault for fault in LOOKALIKES if fault not in ("no_finish_half", "error_text"))


@ways
@pytest.mark.parametrize("fault", GOOD)
def test_the_whole_answer_is_there_and_is_billed(simulator: str, fault: str, wire: str, stream: bool) -> None:
    told = tell(simulator, fault, wire, stream=stream)
    assert told.response.status_code == 200
    assert len(set(told.entries)) == 4
    row = told.row
    assert (row["fault"], row["outcome"]) == (fault, "ok")
    assert row["billed_input_tokens"] == row["input_tokens"] > 0
    assert row["billed_output_tokens"] == row["output_tokens"] > 0
    assert row["usage_sent"] == (fault not in USAGES)
    if fault not in USAGES:
        assert {row["input_tokens"], row["output_tokens"]} <= set(told.usage)


@ways
def test_an_answer_can_end_without_a_reason(simulator: str, wire: str, stream: bool) -> None:
    assert tell(simulator, "no_finish", wire, stream=stream).reasons == []
    assert tell(simulator, "bom", wire, stream=stream).reasons != []


@ways
def test_half_an_answer_ends_without_a_reason_and_without_its_usage(
    simulator: str, wire: str, stream: bool
) -> None:
    whole = tell(simulator, "no_finish", wire, stream=stream)
    half = tell(simulator, "no_finish_half", wire, stream=stream)
    assert half.reasons == []
    assert half.texts["text"] == whole.texts["text"][: len(whole.texts["text"]) // 2]
    assert not half.row["usage_sent"]
    assert half.row["billed_output_tokens"] == half.row["output_tokens"] < whole.row["output_tokens"]


@pytest.mark.parametrize("wire", PATHS)
def test_one_json_object_comes_though_a_stream_was_asked_for(simulator: str, wire: str) -> None:
    told = tell(simulator, "object", wire, stream=True)
    assert told.response.headers["content-type"] == "application/json"


@ways
def test_an_error_can_be_a_mere_string_in_a_success(simulator: str, wire: str, stream: bool) -> None:
    told = tell(simulator, "error_text", wire, stream=stream)
    assert (told.response.status_code, told.errors) == (200, ["the model is loading"])
    assert not told.row["usage_sent"]
    assert bool(told.row["billed_input_tokens"]) == stream


@ways
def test_content_can_be_a_list_with_a_thought_before_the_text(
    simulator: str, wire: str, stream: bool
) -> None:
    told = tell(simulator, "parts", wire, stream=stream)
    assert told.texts["thought"] != ""
    assert told.texts["text"].startswith("{")
    assert told.texts["tool"] == ""


@ways
def test_the_answer_can_be_the_arguments_of_a_tool(simulator: str, wire: str, stream: bool) -> None:
    told = tell(simulator, "tool_call", wire, stream=stream)
    assert told.texts["text"] == ""
    assert told.texts["tool"].startswith("{")
    assert told.reasons == [{"openai": "tool_calls", "anthropic": "tool_use"}[wire]]


@ways
def test_keepalives_that_are_no_json_stand_between(simulator: str, wire: str, stream: bool) -> None:
    told = tell(simulator, "keepalive", wire, stream=stream)
    if stream:
        assert told.keepalives == 2
    else:
        assert told.response.content.startswith(b"\n")


@ways
def test_a_byte_order_mark_comes_first_and_lines_end_in_cr(simulator: str, wire: str, stream: bool) -> None:
    told = tell(simulator, "bom", wire, stream=stream)
    assert told.response.content.startswith(b"\xef\xbb\xbf")
    assert b"\n" not in told.response.content
    assert (b"\r\r" in told.response.content) == stream


@ways
@pytest.mark.parametrize("fault", USAGES)
def test_usage_can_be_what_no_bill_is_made_of(simulator: str, fault: str, wire: str, stream: bool) -> None:
    counts = tell(simulator, fault, wire, stream=stream).usage
    assert (counts == []) == (fault == "usage_missing")
    for count in counts:
        assert {
            "usage_text": isinstance(count, str),
            "usage_nan": isinstance(count, float) and math.isnan(count),
            "usage_inflated": isinstance(count, int) and count % 1_000 == 0,
            "usage_absurd": isinstance(count, int) and count >= 10**30,
            "usage_negative": isinstance(count, int) and count < 0,
        }[fault]


@ways
def test_a_schema_is_refused_by_the_name_of_its_field_and_a_request_without_one_is_answered(
    simulator: str, wire: str, stream: bool
) -> None:
    refused = tell(simulator, NO_SCHEMA, wire, stream=stream, schema=True)
    assert refused.response.status_code == 400
    assert {"openai": "response_format", "anthropic": "output_config"}[wire] in refused.response.text
    assert refused.row["billed_input_tokens"] == 0
    assert len(tell(simulator, NO_SCHEMA, wire, stream=stream).entries) == 4
