"""Tests in a real Chromium that a page of another origin can neither read from the service nor spend.

The service is one that a developer runs: on loopback, without a key. `test_page` tries one with a key.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from foreign_site import foreign_site, recommendations
from playwright.sync_api import Browser, Page
from service_process import RunningService, start_service

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning:playwright")]

KEY = "open sesame"
EVENT = '{"events": [{"user_id": "u1", "item_id": "I001", "timestamp": 1}]}'


@pytest.fixture(scope="module")
def service(bundle_folder: Path) -> Iterator[RunningService]:
    with start_service(bundle_folder, log_level="warning") as service:
        yield service


@pytest.fixture(scope="module")
def site() -> Iterator[int]:
    with foreign_site() as port:
        yield port


@pytest.fixture(params=["evil.example", "localhost"], ids=["cross-site", "same-site"])
def evil(
    request: pytest.FixtureRequest, browser: Browser, service: RunningService, site: int
) -> Iterator[Page]:
    """A page of another origin, of another site or of another port of this one."""
    page = browser.new_page()
    page.goto(f"http://{request.param}:{site}/")
    yield page
    page.close()


def port_of(service: RunningService) -> str:
    return service.url.rsplit(":", 1)[1]


JSON = "headers: {'content-type': 'application/json'}"
WITH_KEY = "headers: {'content-type': 'application/json', authorization: `Bearer ${key}`}"
SIMPLE = "method: 'POST', mode: 'no-cors', credentials: 'include'"  # sent without a preflight
FETCHES = {
    "json": f"{{method: 'POST', credentials: 'include', {JSON}, body}}",
    "json with the key": f"{{method: 'POST', {WITH_KEY}, body}}",
    "plain text": f"{{{SIMPLE}, headers: {{'content-type': 'text/plain'}}, body}}",
    "no kind": f"{{{SIMPLE}, body: new Blob([body])}}",
    "form": f"{{{SIMPLE}, body: new URLSearchParams({{a: body}})}}",
    "reading": "{credentials: 'include'}",
    "forgetting": "{method: 'DELETE', credentials: 'include'}",
}


@pytest.mark.parametrize("how", FETCHES)
def test_no_script_of_another_page_reads_writes_or_spends(
    how: str, evil: Page, service: RunningService
) -> None:
    before, root = recommendations(service), f"http://localhost:{port_of(service)}"
    paths = {"reading": ["/users", "/items", "/users/u1/history"], "forgetting": ["/users/u1"]}
    for path in paths.get(how, ["/recommend?strategy=s3", "/events"]):
        body = EVENT if path == "/events" else '{"user_id": "u1"}'
        read = evil.evaluate(
            f"""async ([url, body, key]) => {{
                try {{ return await (await fetch(url, {FETCHES[how]})).text(); }} catch {{ return ""; }}
            }}""",
            [root + path, body, KEY],
        )
        assert read == ""
    assert recommendations(service) == before
    history = httpx.get(f"{service.url}/users/u1/history").json()
    assert "I001" not in [item["item_id"] for item in history["items"]]


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
def test_no_form_of_another_page_spends(kind: str, evil: Page, service: RunningService) -> None:
    before = recommendations(service)
    evil.evaluate(
        """([action, enctype]) => {
            const form = document.createElement("form"), field = document.createElement("input");
            Object.assign(form, {action, enctype, method: "POST"});
            Object.assign(field, {name: '{"user_id": "u1", "x": "', value: '"}'});
            form.append(field); document.body.append(form); form.submit();
        }""",
        [f"http://localhost:{port_of(service)}/recommend?strategy=s3", kind],
    )
    evil.wait_for_url("**/recommend**")
    assert "MSR_CORS_ORIGINS" in evil.content()
    assert recommendations(service) == before


@pytest.mark.parametrize("path", ["/items/I001/image", "/users", "/assets/page.js"])
def test_nothing_of_ours_can_be_embedded_elsewhere(path: str, evil: Page, service: RunningService) -> None:
    url = f"http://localhost:{port_of(service)}{path}"
    outcome = evil.evaluate(
        """async url => { const seen = {};
            for (const tag of ["img", "script", "iframe"]) {
                const element = document.createElement(tag);
                seen[tag] = await new Promise(tell => {
                    element.onload = () => tell("loaded"); element.onerror = () => tell("refused");
                    element.src = url; document.body.append(element);
                });
            }
            return seen; }""",
        url,
    )
    # A frame is "loaded" whatever it shows, and its contents are out of the page's reach.
    assert (outcome["img"], outcome["script"]) == ("refused", "refused")


def test_a_name_that_suddenly_means_this_machine_reads_and_spends_nothing(
    browser: Browser, service: RunningService
) -> None:
    before, page = recommendations(service), browser.new_page()
    try:
        answer = page.goto(f"http://evil.example:{port_of(service)}/")
        assert answer is not None
        assert answer.status == 403
        assert "MSR_ALLOWED_HOSTS" in answer.text()
        # The page is of the same origin now, as far as the browser knows.
        statuses = page.evaluate(
            """async () => { const headers = {"content-type": "application/json", "x-api-key": "open sesame"};
                const post = {method: "POST", headers, body: '{"user_id": "u1"}'};
                const spent = await fetch("/recommend?strategy=s3", post);
                return [spent.status, (await fetch("/users", {headers})).status];
            }"""
        )
        assert statuses == [403, 403]
        assert recommendations(service) == before
    finally:
        page.close()


def test_a_page_of_a_configured_origin_may_call(browser: Browser, site: int, bundle_folder: Path) -> None:
    origin = f"http://shop.example:{site}"
    with start_service(bundle_folder, api_key=KEY, cors_origins=origin) as service:
        page = browser.new_page()
        page.goto(origin)
        served = page.evaluate(
            """async url => {
                const headers = {"content-type": "application/json", "x-api-key": "open sesame"};
                const answer = await fetch(url, {method: "POST", headers, body: '{"user_id": "u1"}'});
                return [answer.headers.get("x-request-id").length, (await answer.json()).served]; }""",
            f"http://localhost:{port_of(service)}/recommend?strategy=s3",
        )
        assert served == [32, "s3"]
        page.close()
