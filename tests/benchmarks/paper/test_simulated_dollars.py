"""Tests that dollars billed by the simulator are marked in every table."""

from __future__ import annotations

from pathlib import Path

import pytest
from fake_service import FakeService

from benchmarks.__main__ import main
from benchmarks.paper.accuracy import is_simulated
from service.catalogue.bundle import open_bundle


@pytest.mark.parametrize(
    ("call", "simulated"),
    [
        ({"provider": "vllm", "model": "gpt-4o", "simulated": True}, True),
        ({"provider": "vllm", "model": "gpt-4o", "simulated": False}, False),
        ({"provider": "vllm", "model": "gpt-4o"}, False),
        ({"provider": "simulator", "model": "gpt-4o"}, True),
        ({"provider": "simulator-anthropic", "model": "gpt-4o"}, True),
        ({"provider": "vllm", "model": "simulator/gpt-4o"}, True),
    ],
)
def test_a_simulated_answer_is_known_whatever_its_provider_is_called(
    call: dict[str, object], simulated: bool
) -> None:
    assert is_simulated(call) == simulated


@pytest.mark.parametrize(("provider", "simulated"), [("simulator", True), ("openai", False)])
def test_the_pages_mark_what_simulated_answers_would_have_cost(
    provider: str,
    simulated: bool,
    tiny_bundle: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "r.jsonl"
    with FakeService(open_bundle(tiny_bundle), model="gpt-4o", provider=provider).running() as service:
        common = ["--url", service.url, "--bundle", str(tiny_bundle), "--strategies", "none,s3"]
        assert main(["replay", *common, "--users", "4", "--out", str(out)]) == 0
        assert main(["score", str(out)]) == 0
        scored = capsys.readouterr().out
        assert main(["efficiency", *common, "--users", "4", "--warmup", "1"]) == 0
        timed = capsys.readouterr().out
    for page in (scored, timed):
        asked, plain = (
            [line for line in page.splitlines() if line.startswith(f"| {name} ")] for name in ("s3", "none")
        )
        assert any("0.0000" in line for line in asked)
        assert any("(simulated)" in line for line in asked) == simulated
        assert not any("(simulated)" in line for line in plain)
