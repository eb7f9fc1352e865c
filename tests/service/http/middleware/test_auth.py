"""Tests the two keys: where they may stand, what each allows, and what needs none."""

from __future__ import annotations

from base64 import b64encode

import orjson
import pytest
from asgi_client import AsgiClient, Clients, assert_refused

KEY, READ_KEY = "schlüssel: für alles", "nur-lesen"
NOWHERE = "/nowhere"  # 404 to a request that the key lets through
JSON = ("content-type", "application/json")


def basic(user: str, key: str) -> tuple[str, str]:
    return "authorization", "Basic " + b64encode(f"{user}:{key}".encode()).decode()


def ways(key: str) -> list[tuple[str, str]]:
    return [
        ("authorization", f"Bearer {key}"),
        ("authorization", f"bearer  {key} "),
        ("x-api-key", key),
        basic("", key),
        basic("any user", key),
    ]


@pytest.fixture
def client(clients: Clients) -> AsgiClient:
    return clients(api_key=KEY, read_key=READ_KEY)


@pytest.mark.parametrize("way", range(5))
def test_the_key_opens_everything_and_the_read_key_what_reads(way: int, client: AsgiClient) -> None:
    for method in ("GET", "HEAD", "POST", "DELETE"):
        assert client.ask(method, NOWHERE, ways(KEY)[way]).status == 404
    for method in ("GET", "HEAD"):
        assert client.ask(method, NOWHERE, ways(READ_KEY)[way]).status == 404
    for method in ("POST", "DELETE", "OPTIONS"):
        assert_refused(client.ask(method, NOWHERE, ways(READ_KEY)[way]), 403, "this key is for reading")


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("x-api-key", "")],
        [("x-api-key", KEY[:-1])],
        [("x-api-key", KEY + "x")],
        [("authorization", KEY)],
        [("authorization", "Bearer")],
        [("authorization", f"Digest {KEY}")],
        [("authorization", "Basic")],
        [("authorization", "Basic ***")],
        [("authorization", "Basic " + b64encode(KEY.partition(":")[0].encode()).decode())],
        [basic(KEY, "")],
        [("authorization", b"Bearer \xff\xfe")],
        [basic("user", "wrong"), ("x-api-key", "wrong")],
    ],
    ids=range(13),
)
def test_everything_else_is_asked_for_a_key_in_a_way_that_browsers_understand(
    headers: list[tuple[str, str | bytes]], client: AsgiClient
) -> None:
    reply = client.ask("GET", NOWHERE, *headers)
    assert_refused(reply, 401, "Authorization: Bearer", "X-API-Key", "HTTP Basic")
    challenges = [value for name, value in reply.headers if name == "www-authenticate"]
    assert challenges == ['Basic realm="MSR Serve", charset="UTF-8"', 'Bearer realm="MSR Serve"']
    assert KEY not in reply.body.decode()


def test_a_browser_may_add_its_password_to_the_key_that_a_page_sends(client: AsgiClient) -> None:
    reading = basic("", READ_KEY)
    assert client.ask("POST", NOWHERE, JSON, reading, ("x-api-key", KEY)).status == 404
    assert client.ask("POST", NOWHERE, JSON, basic("", KEY), ("x-api-key", "old")).status == 404


def test_a_read_key_that_is_not_set_opens_nothing(clients: Clients) -> None:
    client = clients(api_key=KEY)
    for headers in (("x-api-key", ""), basic("user", ""), ("authorization", "Bearer ")):
        assert_refused(client.ask("GET", NOWHERE, headers), 401)


@pytest.mark.parametrize(
    "path", ["/health/live", "/health/live/", "/assets/page.js", "/assets/swagger-ui.css"]
)
def test_probes_and_the_files_of_the_page_need_no_key(path: str, client: AsgiClient) -> None:
    assert client.ask("GET", path).status == 200


@pytest.mark.parametrize(
    "path",
    ["/docs", "/openapi.json", "/users", "/items/a/image", "/assets/", "/assets/x", "/health", "/x/.."],
)
def test_all_other_paths_need_one(path: str, client: AsgiClient) -> None:
    assert_refused(client.ask("GET", path), 401)


def test_metrics_need_a_key_when_a_setting_says_so(clients: Clients) -> None:
    assert_refused(clients(api_key=KEY, metrics_open=False).ask("GET", "/metrics"), 401)
    assert_refused(clients(api_key=KEY, metrics_open=False).ask("GET", "/metrics/"), 401)


def test_a_foreign_page_gains_nothing_by_the_password_that_a_browser_adds(client: AsgiClient) -> None:
    reply = client.ask("POST", NOWHERE, JSON, basic("", KEY), ("origin", "https://evil.example"))
    assert_refused(reply, 403, "evil.example")


def test_the_description_says_which_routes_need_a_key(clients: Clients) -> None:
    key = ("x-api-key", KEY)
    described = orjson.loads(clients(api_key=KEY, metrics_open=False).ask("GET", "/openapi.json", key).body)
    assert set(described["components"]["securitySchemes"]) == {"bearer", "api_key", "basic"}
    assert described["security"] == [{"bearer": []}, {"api_key": []}, {"basic": []}]
    assert described["paths"]["/health/live"]["get"]["security"] == []
    assert "security" not in described["paths"]["/metrics"]["get"]
    assert "security" not in described["paths"]["/recommend"]["post"]
    plain = orjson.loads(clients().ask("GET", "/openapi.json").body)
    assert "security" not in plain
    assert "securitySchemes" not in plain["components"]
    assert "servers" not in plain
    prefixed = orjson.loads(clients(root_path="/msr").ask("GET", "/msr/openapi.json").body)
    assert prefixed["servers"] == [{"url": "/msr"}]
