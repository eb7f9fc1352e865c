"""Tests that every body that is posted is either parsed or refused."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from simulator_prompts import RED, encoded, image_block, image_part, product

from service.simulator.accounting.image_tokens import RULES
from service.simulator.answers.model import SimulatedModel
from service.simulator.answers.prompt_parser import parse_prompt
from service.simulator.batches.openai_input import ENDPOINT, BatchInput
from service.simulator.contracts import RejectedError, Wire
from service.simulator.vision.picture_cells import BrokenPictureError
from service.simulator.wire.request_checks import inspect_picture
from service.simulator.wire.wire_formats import anthropic_wire, openai_wire

HEADERS = {"authorization": "Bearer key", "anthropic-version": "2023-06-01"}
PNG = encoded(product(RED), "PNG")
JPEG = encoded(product(RED))
OPENAI, ANTHROPIC = openai_wire(RULES["patches"]), anthropic_wire()

leaves = st.sampled_from(
    [None, True, 0, -1, 2.5, 10**30, "", "user", "text", "json_schema", "#/$defs/x", [], {}]
)
keys = st.sampled_from(
    ["type", "role", "content", "text", "image_url", "url", "detail", "source", "schema", "json_schema",
     "name", "strict", "properties", "items", "anyOf", "enum", "const", "$ref", "$defs", "required",
     "minItems", "additionalProperties", "format", "include_usage", "user_id"]
)  # fmt: skip
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=12,
)
FIELDS = ("model", "messages", "max_tokens", "max_completion_tokens", "stream", "stream_options", "metadata",
          "response_format", "output_config", "system", "tools", "n", "stop")  # fmt: skip
USABLE = {"model": "m", "max_tokens": 50, "messages": [{"role": "user", "content": "hi"}]}


@pytest.mark.parametrize("wire", [OPENAI, ANTHROPIC], ids=["openai", "anthropic"])
@given(change=st.dictionaries(st.sampled_from(FIELDS), values, max_size=3))
def test_any_body_is_understood_or_refused(wire: Wire, change: dict[str, Any]) -> None:
    check(wire, {**USABLE, **change})


@pytest.mark.parametrize("wire", [OPENAI, ANTHROPIC], ids=["openai", "anthropic"])
@given(part=values)
def test_any_content_part_is_understood_or_refused(wire: Wire, part: Any) -> None:
    check(wire, {**USABLE, "messages": [{"role": "user", "content": [part]}]})


@given(
    entries=st.lists(
        values
        | st.fixed_dictionaries(
            {"custom_id": st.text() | values, "url": st.just(ENDPOINT), "method": st.just("POST") | values},
            optional={"body": st.dictionaries(st.sampled_from(FIELDS), values, max_size=3) | values},
        ),
        max_size=4,
    )
)
def test_any_file_of_requests_is_understood_or_its_mistakes_are_reported(entries: list[Any]) -> None:
    read = BatchInput("\n".join(map(json.dumps, entries)).encode())
    errors = read.check()
    assert all(error["code"] and error["message"] for error in errors)
    if not errors:
        for custom_id, body in read.requests():
            assert isinstance(custom_id, str)
            check(OPENAI, body)


@given(wanted=st.dictionaries(keys, values, max_size=5))
def test_any_schema_is_satisfied_or_refused(wanted: dict[str, Any]) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": wanted}}
    check(OPENAI, {**USABLE, "response_format": form})
    check(ANTHROPIC, {**USABLE, "output_config": {"format": {"type": "json_schema", "schema": wanted}}})


@pytest.mark.parametrize("whole", [PNG, JPEG], ids=["png", "jpeg"])
@given(at=st.integers(0, 2000), byte=st.integers(0, 255), end=st.integers(0, 4000))
def test_a_damaged_picture_is_described_or_refused(whole: bytes, at: int, byte: int, end: int) -> None:
    damaged = bytearray(whole[:end])
    damaged[at : at + 1] = bytes([byte])
    media_type = "image/png" if whole is PNG else "image/jpeg"
    part, block = image_part(bytes(damaged), media_type), image_block(bytes(damaged), media_type)
    check(OPENAI, {**USABLE, "messages": [{"role": "user", "content": [part]}]})
    check(ANTHROPIC, {**USABLE, "messages": [{"role": "user", "content": [block]}]})


def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded() -> None:
    with pytest.raises(ValueError, match="pixels are more than"):
        inspect_picture(encoded(Image.new("1", (8000, 7000)), "PNG"))


def check(wire: Wire, body: dict[str, Any]) -> None:
    """Read a body as a wire does and answer it; anything but an answer or a refusal is an error."""
    with contextlib.suppress(RejectedError, BrokenPictureError):
        ask = wire.requests.read(HEADERS, json.dumps(body).encode())
        text = SimulatedModel(seed=0).answer(ask, parse_prompt(ask))
        if ask.schema is not None:
            json.loads(text)
