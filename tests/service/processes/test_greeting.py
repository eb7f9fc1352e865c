"""Tests what the terminal shows when the service is ready."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from service.catalogue.bundle import open_bundle
from service.processes.greeting import greeting
from service.settings import Settings


@pytest.mark.parametrize("given", [{}, {"api_key": "open sesame"}], ids=["open", "keyed"])
def test_the_commands_carry_the_key_s_variable_and_not_the_key(
    given: dict[str, Any], bundle_folder: Path
) -> None:
    text = greeting(Settings(**given), open_bundle(bundle_folder))
    commands = [line for line in text.splitlines() if line.strip().startswith("curl ")]
    assert len(commands) == 3
    assert all(('-H "Authorization: Bearer $MSR_API_KEY"' in command) == bool(given) for command in commands)
    assert "sesame" not in text
