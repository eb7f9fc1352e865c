"""Tests that a secret in the output of the test run is found, and that secrets of tests can be told."""

import re
from pathlib import Path

import pytest
from output_secrets import MARK

pytest_plugins = "pytester"

PRINTS = f"""
import logging, subprocess, sys, pytest

KEY = "sk-{MARK[:3]}" + "{MARK[3:]}"

def test_prints():
    print(KEY)

def test_logs():
    logging.getLogger().warning("the key %s", KEY)

def test_starts_a_process_that_prints():
    subprocess.run([sys.executable, "-c", "import sys; sys.stderr.write(sys.argv[1])", KEY])

@pytest.fixture
def noisy():
    yield
    print(KEY)

def test_cleans_up(noisy):
    pass

@pytest.mark.parametrize("key", [KEY])
def test_is_silent(key):
    pass
"""

KEYS = re.compile(r"""["'](sk-[^"']*)["']|://[^/"'@\\s]*:([^"'@/]+)@""")


def test_a_test_fails_that_prints_or_logs_a_secret_or_starts_a_process_that_does(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytester.makepyfile(PRINTS)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    result = pytester.runpytest_subprocess("-p", "output_secrets", "-v")
    result.assert_outcomes(passed=5, errors=4)
    output = result.stdout.str() + result.stderr.str()
    assert MARK not in output
    for section in ("stdout call", "log call", "stderr call", "stdout teardown"):
        assert f"a secret of this test is in its output: Captured {section}" in output


def test_every_key_and_password_of_a_test_can_be_told() -> None:
    told = [
        f"{path.name}: {key or password}"
        for path in Path(__file__).parent.rglob("*.py")
        if path != Path(__file__)
        for key, password in KEYS.findall(path.read_text(encoding="utf-8"))
        if MARK not in (key or password) and not re.fullmatch(r"\{\w+\}", password)  # a variable
    ]
    assert not told, f"write {MARK} into these"
