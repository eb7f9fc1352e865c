"""A real Chromium for the tests of the pages; without one they are skipped."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Playwright, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


@pytest.fixture(scope="module")
def playwright() -> Iterator[Playwright]:
    if CHROMIUM is None:
        pytest.skip("no Chromium on the PATH (Debian: apt install chromium)")
    with sync_playwright() as started:
        yield started


@pytest.fixture(scope="module")
def browser(playwright: Playwright) -> Iterator[Browser]:
    """A browser for which names in .example are this machine, as the DNS server of evil.example could say."""
    rules = "--host-resolver-rules=MAP *.example 127.0.0.1"
    started = playwright.chromium.launch(executable_path=CHROMIUM, args=[*OPTIONS, rules])
    yield started
    started.close()
