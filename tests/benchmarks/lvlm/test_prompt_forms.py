from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.__main__ import main
from benchmarks.lab.rounds import Limit
from benchmarks.lvlm import prompt_forms
from benchmarks.lvlm.prompt_forms import FormRound, limit_checks, pictures


def broken(label: FormRound, paper: FormRound) -> list[bool]:
    found = {"label": [label], "paper": [paper]}
    return [limit.broken_by(ratio) for limit, ratio in limit_checks(found, pictures("gpt-4o"))]


def test_a_label_form_that_saves_too_little_breaks_its_limits() -> None:
    paper = FormRound(output_tokens=500, seconds=9.0, ordered=2)
    assert broken(FormRound(50, 1.5, 2), paper) == [False, False, False]
    assert broken(FormRound(51, 1.6, 2), paper) == [True, True, False]


def test_a_broken_limit_is_the_exit_code(
    bundle_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pace = ["--ttft", "0", "--tokens-per-second", "5000"]
    options = ["--bundle", str(bundle_folder), "--users", "2", "--rounds", "1", *pace]
    for name in ("TOKENS", "SECONDS", "PIXELS"):
        monkeypatch.setattr(prompt_forms, name, Limit(name, least=0))
    found = prompt_forms._measure
    measured: list[Any] = []

    def measure_once(*arguments: Any) -> Any:
        """What was measured is held to other limits the second time."""
        if not measured:
            measured.append(found(*arguments))
        return measured[0]

    monkeypatch.setattr(prompt_forms, "_measure", measure_once)
    assert main(["forms", *options]) == 0
    monkeypatch.setattr(prompt_forms, "TOKENS", Limit("tokens", most=0))
    assert main(["forms", *options]) == 1
    assert "tokens at most 0: " in capsys.readouterr().out
