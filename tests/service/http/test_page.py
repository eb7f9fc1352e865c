"""Tests the page in a real browser: it shows recommendations, and catalogue text is never markup."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from bundles import write_bundle
from playwright.sync_api import Page, Route, expect, sync_playwright
from service_process import start_service

from models.contracts import sha256_of

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
HOSTILE = "<img src=x onerror=\"document.title='owned'\"> mug"

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the PATH (Debian: apt install chromium)"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:playwright"),
]


@pytest.fixture(scope="module")
def hostile_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The blocks, with one title that is markup."""
    folder = write_bundle(tmp_path_factory.mktemp("hostile") / "bundle")
    items = folder / "catalogue" / "items.jsonl"
    lines = items.read_text().splitlines()
    lines[16] = json.dumps({**json.loads(lines[16]), "title": HOSTILE})
    items.write_text("\n".join(lines) + "\n")
    manifest = folder / "catalogue" / "manifest.json"
    record = json.loads(manifest.read_text())
    record["sha256"]["items.jsonl"] = sha256_of(items)
    from models.contracts import CatalogueManifest

    changed = CatalogueManifest.from_json(record)
    manifest.write_text(json.dumps(changed.to_json()))
    for path in (folder / "backbones").glob("*/manifest.json"):
        path.write_text(json.dumps({**json.loads(path.read_text()), "catalogue_version": changed.version}))
    return folder


@pytest.fixture(scope="module")
def page(hostile_bundle: Path) -> Iterator[Page]:
    with start_service(hostile_bundle) as service, sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=[
                "--no-sandbox",
                "--disable-gpu",
                "--disable-background-networking",
                "--disable-component-update",
            ],
        )
        page = browser.new_page()
        page.goto(service.url)
        yield page
        browser.close()


def test_the_first_look_shows_ten_recommendations_and_the_history(page: Page) -> None:
    expect(page.locator("#items li")).to_have_count(10)
    expect(page.locator("#history li")).to_have_count(3)
    expect(page.locator("#facts")).to_contain_text("served s3")
    expect(page.locator("#facts")).to_contain_text("simulator")
    expect(page.locator("#bundle")).to_contain_text("48 items")


def test_another_strategy_and_an_explanation_can_be_asked_for(page: Page) -> None:
    page.select_option("#strategy", "s5")
    page.check("#explain")
    page.fill("#k", "4")
    page.click("#go")
    expect(page.locator("#items li")).to_have_count(4)
    expect(page.locator("#facts")).to_contain_text("served s5")
    expect(page.locator("#explanation")).to_contain_text("Simulated answer:")


def test_markup_in_a_title_stays_text(page: Page) -> None:
    page.fill("#user", "u4")
    page.fill("#k", "40")
    page.select_option("#strategy", "none")
    page.click("#go")
    expect(page.locator("#items")).to_contain_text(HOSTILE)
    assert page.title() == "MSR Serve"
    assert page.locator("#items img[src='x']").count() == 0


def test_a_comment_that_keeps_the_line_open_is_no_event(page: Page) -> None:
    page.reload()
    expect(page.locator("#items li")).to_have_count(10)

    def interrupt(route: Route) -> None:
        answer = route.fetch()
        body = answer.text().replace("event: answer", ": still at it\n\nevent: answer")
        route.fulfill(response=answer, body=body)

    page.route("**/recommend**", interrupt)
    page.fill("#k", "3")
    page.click("#go")
    expect(page.locator("#items li")).to_have_count(3)
    expect(page.locator("#facts")).to_contain_text("served s3")
    expect(page.locator("#problem")).to_be_empty()
    page.unroute("**/recommend**")


def test_an_error_is_shown_in_words(page: Page) -> None:
    page.evaluate("document.getElementById('k').removeAttribute('max')")
    page.fill("#k", "1000")
    page.click("#go")
    expect(page.locator("#problem")).to_contain_text("Invalid request: body.k")
