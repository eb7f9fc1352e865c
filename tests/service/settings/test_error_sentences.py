"""Tests that a setting of the wrong form is refused with a sentence that does not show its value."""

from __future__ import annotations

import json
import os

import pytest

from service.errors import ConfigurationError
from service.settings import read_settings

URL = "http://gpu:8001"


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith(("MSR_", "OPENAI_", "ANTHROPIC_")):
            monkeypatch.delenv(name)


def refusal(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> str:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError) as caught:
        read_settings()
    return str(caught.value)


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        (
            {"base_url": URL, "models": ["m"], "api_key": "s3cr3t"},
            ".api_key: no option: put the key into an environment variable and its name into 'api_key_v",
        ),
        (
            {"base_url": URL, "models": ["m"], "key_header": "x"},
            ".key_header: no option: did you mean 'api_k",
        ),
        ({"base_url": URL, "models": ["m"], "zzz": 1}, ".zzz: no option: leave it out"),
        ({"base_url": URL, "models": "m"}, '.models: must be a JSON list: ["name", …]'),
        ({"base_url": URL, "models": []}, ".models: must name at least one"),
        ({"base_url": URL, "models": ["m", " "]}, ".models.1: must not be empty"),
        ({"base_url": URL, "models": [5]}, ".models.0: must be a text in double quotes"),
        ({"base_url": URL}, ".models: is missing and must be set"),
        ({"base_url": URL, "models": ["m"], "headers": []}, '.headers: must be a JSON object: {"name": …}'),
        (URL, ': must be a JSON object: {"name": …}'),
    ],
)
def test_an_entry_of_the_wrong_form_is_refused_with_the_right_one(
    entry: object, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = refusal(monkeypatch, "MSR_COMPATIBLE", json.dumps({"vllm": entry}))
    assert said.startswith(f"MSR_COMPATIBLE.vllm{sentence}")
    assert "s3cr3t" not in said


def test_a_wrong_name_of_a_provider_is_refused_with_the_letters_allowed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said = refusal(monkeypatch, "MSR_COMPATIBLE", json.dumps({"My GPU": {"base_url": URL, "models": ["m"]}}))
    assert "must begin with a small letter and hold at most 32 of a-z" in said


@pytest.mark.parametrize("name", ["MSR_COMPATIBLE", "MSR_LVLM_LIMITS"])
def test_a_list_in_the_place_of_an_object_is_refused_with_the_right_form(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert refusal(monkeypatch, name, "[]") == f'{name}: must be a JSON object: {{"name": …}}'


@pytest.mark.parametrize("name", ["MSR_COMPATIBLE", "MSR_OPENAI_OPTIONS"])
def test_json_that_is_nested_too_deeply_is_one_sentence(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert refusal(monkeypatch, name, '{"a":' * 60_000) == f"{name}: the JSON is nested too deeply"
