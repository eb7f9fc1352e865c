"""Tests the table of expected outcomes, its checks, and the command with the fake vendors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks.__main__ import main
from benchmarks.lab.service_client import Event, Reply
from benchmarks.lvlm.fake_vendors.expectations import (
    NOT_IN_TABLE,
    CountedReply,
    Expectation,
    K,
    expectation,
    problems_with,
)
from benchmarks.lvlm.fake_vendors.programs import MODES, PROGRAMS, behaviours, running_fake_vendor

SERVED, FAILED = expectation("openai", "good", "stream"), expectation("openai", "loading", "stream")
REFUSED = expectation("openai", "no-schema", "stream")


def asked(
    outcome: str = "ok", calls: int = 1, images: int = 10, events: tuple[Event, ...] = (), **lvlm: Any
) -> CountedReply:
    """An answer of the LVLM, or the candidate order for a fallback."""
    source = "toy" if outcome.startswith("fallback") else "lvlm"
    shown = {"titles": 10, "images": images, "captions": 0}
    told = {"input_tokens": 100, "output_tokens": 10, "estimated": False, "shown": shown, **lvlm}
    items = [{"item_id": f"I{row}", "rank": row + 1, "source": source} for row in range(K)]
    served = "none" if source == "toy" else "s3"
    body = {"items": items, "outcome": outcome, "served": served, "lvlm": told, "warnings": []}
    return CountedReply(Reply(200, body, 0.1, 1, None, events), calls, with_events=bool(events))


def test_answers_as_the_table_says_have_nothing_wrong() -> None:
    assert problems_with(SERVED, [asked(), asked()]) == []
    assert problems_with(FAILED, [asked("fallback_provider", 3)] * 2) == []
    assert problems_with(REFUSED, [asked(calls=2), asked()]) == []
    untold = expectation("openai", "usage-null", "stream")
    assert problems_with(untold, [asked(estimated=True, input_tokens=1_250)]) == []
    refuses_pictures = asked(calls=2, images=0)
    refuses_pictures.reply.body["warnings"].append("the server takes no images: items are shown by title")
    assert problems_with(expectation("openai", "no-images", "plain"), [refuses_pictures]) == []


@pytest.mark.parametrize(
    ("right", "answers", "said"),
    [
        (SERVED, [asked("repaired")], "outcome repaired instead of ok"),
        (SERVED, [asked(calls=2)], "2 calls instead of 1"),
        (SERVED, [asked(output_tokens=11)], "usage was told, and the answer says 100/11"),
        (SERVED, [asked(estimated=True)], "usage was told, and the answer says ≈100/10"),
        (SERVED, [asked(input_tokens=100.0)], "whole numbers"),
        (SERVED, [asked(images=0)], "the pictures were left out"),
        (SERVED, [CountedReply(Reply(500, {}, 0.1, 1, "500: broken"), 1, with_events=False)], "500: broken"),
        (SERVED, [CountedReply(Reply(200, {}, 0.1, 1, "cut", ()), 1, with_events=True)], "ends with nothing"),
        (REFUSED, [asked(), asked()], "1 calls instead of 2 (without)"),
        (REFUSED, [asked(calls=2), asked(calls=2)], "2 calls instead of 1 (without)"),
        (FAILED, [asked("fallback_provider", 1)], "1 calls instead of 3"),
        (expectation("openai", "usage-null", "stream"), [asked()], "usage was not told"),
        (expectation("openai", "no-images", "stream"), [asked(calls=2, images=0)], "warns of nothing"),
    ],
)
def test_what_is_not_as_the_table_says_is_reported(
    right: Expectation, answers: list[CountedReply], said: str
) -> None:
    assert any(said in sentence for sentence in problems_with(right, answers))


def test_the_table_knows_every_behaviour(fake_vendors: Path) -> None:
    for wire in PROGRAMS:
        names = behaviours(fake_vendors, wire)
        assert {"good", "usage-null", "no-schema"} < set(names)
        for mode in MODES:
            assert [name for name in names if expectation(wire, name, mode) is NOT_IN_TABLE] == []


def test_calls_are_counted_by_the_fakes_own_logs(fake_vendors: Path, tmp_path: Path) -> None:
    for wire, path in (("openai", "/v1/chat/completions"), ("anthropic", "/v1/messages")):
        with running_fake_vendor(fake_vendors, wire, tmp_path) as fake:
            body = {"model": "good", "messages": [{"role": "user", "content": "hi"}], "stream": True}
            for _ in range(2):
                assert httpx.post(f"{fake.url}{path}", json=body, trust_env=False).status_code == 200
            assert fake.calls() == {"good": 2}


def test_every_behaviour_of_the_fake_vendors_ends_as_the_table_says(
    fake_vendors: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["behaviours", "--fakes", str(fake_vendors)])
    assert code == 0, capsys.readouterr().out.partition("- cells that are not")[2]


def test_without_fakes_there_is_nothing_to_ask(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["behaviours", "--fakes", str(tmp_path)]) == 0
    assert "no fake vendors" in capsys.readouterr().err
