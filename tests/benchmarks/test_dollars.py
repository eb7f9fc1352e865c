"""A rehearsal's dollars are never read as spent."""

from __future__ import annotations

from pathlib import Path

import pytest
from fake_service import FakeService
from tiny_bundle import write_tiny_bundle

from benchmarks.__main__ import main
from benchmarks.dollars import dollars
from benchmarks.scoring import is_simulated
from service.catalogue.bundle import open_bundle


def test_an_amount_says_that_it_is_simulated() -> None:
    assert dollars(0.0031, 4, simulated=True) == "0.0031 (simulated)"
    assert dollars(0.0031, 4, simulated=False) == "0.0031"
    assert dollars(None, 4, simulated=True) == "–"


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
    provider: str, simulated: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = write_tiny_bundle(tmp_path / "bundle"), tmp_path / "r.jsonl"
    with FakeService(open_bundle(folder), model="gpt-4o", provider=provider).running() as service:
        common = ["--url", service.url, "--bundle", str(folder), "--strategies", "none,s3"]
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
