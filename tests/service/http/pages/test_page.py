"""Tests page and docs in a real browser, below a prefix and with a key, which the browser asks for.

The page shows recommendations, catalogue text is never markup, and no other server is asked for anything.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from bundles import write_bundle
from foreign_site import foreign_site, recommendations
from playwright.sync_api import Browser, Page, Route, expect
from service_process import RunningService, start_service

from models.contracts import sha256_of

KEY = "open sesame"
HOSTILE = "<img src=x onerror=\"document.title='owned'\"> mug"

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:playwright")


TRIES = """async url => {
    const body = '{"user_id": "u1"}', method = "POST", credentials = "include", mode = "no-cors";
    const read = async options => {
        try {
            const answer = await fetch(url, options);
            return answer.status === 403 ? "" : await answer.text();
        } catch { return ""; }
    };
    return [
        await read({credentials}),
        await read({method, credentials, headers: {"content-type": "application/json"}, body}),
        await read({method, credentials, mode, body}),
        await read({method, credentials, mode, body: new URLSearchParams({body})}),
    ];
}"""


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
def service(hostile_bundle: Path) -> Iterator[RunningService]:
    with start_service(hostile_bundle, root_path="/msr", api_key=KEY) as service:
        yield service


@pytest.fixture(scope="module")
def page(service: RunningService, browser: Browser) -> Iterator[Page]:
    context = browser.new_context(http_credentials={"username": "any", "password": KEY})
    page = context.new_page()
    problems: list[str] = []
    page.on("console", lambda said: problems.append(said.text) if "Content Security" in said.text else None)
    page.on(
        "request", lambda asked: None if asked.url.startswith(service.url) else problems.append(asked.url)
    )
    page.goto(f"{service.url}/msr/")
    yield page
    context.close()
    assert not problems, "refused by the policy, or asked of another server"


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


def test_a_backbone_can_be_chosen_by_its_name_and_family(page: Page) -> None:
    expect(page.locator("#bundle")).to_contain_text("blocks-raw (morec), pop, random")
    page.select_option("#strategy", "none")
    page.select_option("#backbone", label="pop")
    page.click("#go")
    expect(page.locator("#facts")).to_contain_text("backbone pop (pop)")


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


def test_the_pictures_are_shown_below_the_prefix(page: Page) -> None:
    page.reload()
    picture = page.locator("#items img").first
    expect(picture).to_have_js_property("complete", True)
    assert picture.evaluate("img => img.naturalWidth") > 0
    assert "/msr/items/" in picture.evaluate("img => img.src")


def test_the_docs_try_a_request_with_our_own_files_alone(page: Page, service: RunningService) -> None:
    page.goto(f"{service.url}/msr/docs/")  # the slash is led away from, since links would count from it
    assert page.url == f"{service.url}/msr/docs"
    page.get_by_role("button", name="Authorize").first.click()
    expect(page.get_by_text("bearer (http, Bearer)")).to_be_visible()
    page.get_by_role("button", name="Close").last.click()
    operation = page.locator("#operations-catalogue-list_users_users_get")
    operation.locator(".opblock-summary-control").click()
    operation.get_by_role("button", name="Try it out").click()
    operation.get_by_role("button", name="Execute").click()
    expect(operation.locator(".request-url").first).to_contain_text(f"{service.url}/msr/users")
    expect(operation.locator(".live-responses-table .response .response-col_status")).to_contain_text("200")


def test_a_page_of_another_origin_reads_nothing_and_spends_nothing(
    page: Page, service: RunningService
) -> None:
    """The browser remembers the key, and would send it along; `test_foreign_pages` tries every other way."""
    port, before, evil = service.url.rsplit(":", 1)[1], recommendations(service), page.context.new_page()
    with foreign_site() as site:
        # Of another origin, then with a name that suddenly means this machine (DNS rebinding).
        for address, name in (("evil.example", site), "127.0.0.1"), (("evil.example", port), "evil.example"):
            evil.goto("http://{}:{}/".format(*address))
            assert evil.evaluate(TRIES, f"http://{name}:{port}/recommend") == ["", "", "", ""]
    assert recommendations(service) == before
    evil.close()
