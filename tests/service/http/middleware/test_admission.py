"""Tests which hosts, pages and kinds of body are let in, and what the others are told."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from asgi_client import LIVE, AsgiClient, Clients, assert_refused
from hypothesis import given, settings
from hypothesis import strategies as st

OPEN = {"host": "0.0.0.0"}
JSON = ("content-type", "application/json")
THROUGH = 405  # a POST to a route of GET alone


@pytest.mark.parametrize(
    "host",
    ["localhost", "LocalHost:8000", "localhost.", "a.localhost", "127.0.0.1", "127.9.8.7:80", "[::1]",
     "[::1]:8000", "[0:0:0:0:0:0:0:1]", "[::ffff:127.0.0.1]"],
)  # fmt: skip
@pytest.mark.parametrize("given", [{}, {"host": "::1"}, {"allowed_hosts": "shop.example"}], ids=str)
def test_loopback_names_are_always_allowed(host: str, given: dict[str, Any], clients: Clients) -> None:
    assert clients(**given).ask(host=host).status == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "localhost.evil.example", "192.0.2.1", "[fe80::1]"]
)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "DELETE", "OPTIONS"])
def test_on_loopback_every_other_host_is_refused_on_every_route(
    host: str, method: str, clients: Clients
) -> None:
    for path in ("/", LIVE, "/recommend", "/metrics", "/nowhere"):
        reply = clients().ask(method, path, host=host)
        assert_refused(reply, 403, "MSR_ALLOWED_HOSTS", host)


@pytest.mark.parametrize("host", ["evil.example", "192.0.2.1:9", "under_score:8000", "[fe80::1]"])
@pytest.mark.parametrize("given", [OPEN, {"host": "::"}, {"allowed_hosts": "*"}], ids=str)
def test_an_open_address_is_called_by_any_name_unless_a_list_says_otherwise(
    host: str, given: dict[str, Any], clients: Clients
) -> None:
    assert clients(**given).ask(host=host).status == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("shop.example", 200),
        ("SHOP.example.:443", 200),
        ("a.b.example.com", 200),
        ("example.com", 403),
        ("badexample.com", 403),
        ("192.0.2.7", 200),
        ("192.0.2.8", 403),
        ("[2001:db8::1]:80", 200),
        ("10.0.0.3", 200),
        ("evil.example", 403),
    ],
)
def test_a_list_of_hosts_holds_for_an_open_address_too(host: str, status: int, clients: Clients) -> None:
    names = "shop.example,*.example.com,192.0.2.7,2001:DB8:0::1"
    client = clients(host="10.0.0.3", allowed_hosts=names)  # its own address is always allowed
    assert client.ask(host=host).status == status


@pytest.mark.parametrize(
    "host",
    ["", " ", "a b", "a/b", "user@localhost", "localhost:99999", "localhost:x", "[::1", "::1", "[localhost]",
     "[1::2::3]", "localhost,localhost", "a" * 300, "%6cocalhost", "-", "localhost:80:80", b"\xff",
     b"\x00", "ｌocalhost", ".", ":80"],
)  # fmt: skip
@pytest.mark.parametrize("given", [{}, OPEN], ids=str)
def test_a_malformed_host_is_refused_everywhere(host: str, given: dict[str, Any], clients: Clients) -> None:
    assert_refused(clients(**given).ask(host=host), 400, "Host header")


def test_a_missing_host_is_refused_since_http_1_1(clients: Clients) -> None:
    assert_refused(clients().ask(host=None), 400, "Host header")
    assert clients().ask(host=None, version="1.0").status == 200


def test_two_hosts_are_refused_even_if_they_are_equal(clients: Clients) -> None:
    assert_refused(clients().ask("GET", LIVE, ("host", "localhost:8000")), 400, "Host header")


FOREIGN = [
    ("https://evil.example", None),
    ("http://localhost:8001", None),
    ("http://localhost", None),
    ("https://localhost:8000.evil.example", None),
    ("ftp://localhost:8000", None),
    ("null", None),
    ("null", "same-origin"),
    ("", None),
    ("localhost:8000", None),
    ("http://localhost:8000/", None),
    ("http://localhost:8000, http://localhost:8000", None),
    ("http://" + "a" * 300, None),
    ("http://localhost:8000", "cross-site"),
    ("http://localhost:8000", "same-site"),
    ("https://evil.example", "cross-site"),
    (None, "cross-site"),
    (None, "same-site"),
    (None, "nonsense"),
]
OWN = [
    (None, None),
    ("http://localhost:8000", None),
    ("https://localhost:8000", None),
    ("HTTP://LOCALHOST:8000", None),
    ("http://localhost:8000", "same-origin"),
    ("https://shop.example", "same-origin"),  # a proxy has changed the host; browsers let no page write this
    (None, "same-origin"),
    (None, "none"),
]


def page_headers(origin: str | None, site: str | None) -> list[tuple[str, str]]:
    named = (("origin", origin), ("sec-fetch-site", site))
    return [(name, value) for name, value in named if value is not None]


@pytest.mark.parametrize(("origin", "site"), FOREIGN)
@pytest.mark.parametrize(
    "given", [{}, {"host": "0.0.0.0"}, {"cors_origins": "https://shop.example"}], ids=str
)
def test_a_foreign_page_may_read_what_its_browser_allows_and_never_write(
    origin: str | None, site: str | None, given: dict[str, Any], clients: Clients
) -> None:
    client, headers = clients(**given), page_headers(origin, site)
    for method in ("POST", "DELETE", "PUT", "PATCH", "TRACE", "NONSENSE"):
        assert_refused(client.ask(method, LIVE, JSON, *headers), 403, "MSR_CORS_ORIGINS")
    read = client.ask("GET", LIVE, *headers)
    assert read.status == 200
    assert not read["access-control-allow-origin"]


@pytest.mark.parametrize(("origin", "site"), OWN)
def test_the_service_s_own_page_and_programs_may_write(
    origin: str | None, site: str | None, clients: Clients
) -> None:
    assert clients().ask("POST", LIVE, JSON, *page_headers(origin, site)).status == THROUGH


@pytest.mark.parametrize(
    ("origin", "host", "same"),
    [
        ("https://shop.example", "shop.example", True),
        ("https://shop.example", "shop.example:443", True),
        ("https://shop.example:443", "shop.example", True),
        ("http://shop.example", "shop.example:80", True),
        ("https://shop.example", "shop.example:80", False),
        ("https://shop.example:8443", "shop.example", False),
        ("https://shop.example", "a.shop.example", False),
        ("http://[::1]:8000", "[0::1]:8000", True),
        ("http://[::1]:8000", "[::1]", False),
    ],
)
def test_the_ports_of_schemes_count_where_none_is_given(
    origin: str, host: str, same: bool, clients: Clients
) -> None:
    reply = clients(**OPEN).ask("POST", LIVE, JSON, ("origin", origin), host=host)
    assert reply.status == (THROUGH if same else 403)


def test_a_host_that_a_trusted_proxy_was_asked_for_counts_as_ours(clients: Clients) -> None:
    headers = (JSON, ("origin", "https://shop.example"), ("x-forwarded-host", "shop.example, inner"))
    trusting = clients(trusted_proxies="10.0.0.0/8")
    assert trusting.ask("POST", LIVE, *headers, peer="10.1.2.3").status == THROUGH
    assert trusting.ask("POST", LIVE, *headers, peer="::ffff:10.1.2.3").status == THROUGH
    assert trusting.ask("POST", LIVE, *headers, peer="11.1.2.3").status == 403
    assert clients().ask("POST", LIVE, *headers, peer="127.0.0.1").status == 403


@pytest.mark.parametrize(
    "kind",
    [None, "", "application/json", "Application/JSON", "application/json; charset=utf-8",
     'application/json;charset="UTF-8"', "application/json; charset=utf8; x=y", "application/problem+json",
     "application/vnd.shop.v1+json", "application/json;"],
)  # fmt: skip
def test_json_is_let_in_and_so_is_a_body_of_no_declared_kind(kind: str | None, clients: Clients) -> None:
    headers = [] if kind is None else [("content-type", kind)]
    assert clients().ask("POST", LIVE, *headers).status == THROUGH


@pytest.mark.parametrize(
    "kind",
    ["text/plain", "text/json", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x",
     "application/jsonx", "application/json, text/plain", "json", "application/json; charset=latin-1",
     "application/json; charset=utf-16", "*/*", "application/+json", "text/plain; application/json",
     "text/plain;charset=utf-8", b"\xff", "application/json" + " " * 300],
)  # fmt: skip
def test_every_other_kind_of_body_is_refused_with_the_right_one(kind: str, clients: Clients) -> None:
    for method in ("POST", "DELETE"):
        reply = clients().ask(method, LIVE, ("content-type", kind))
        assert_refused(reply, 415, "`Content-Type: application/json`")
        assert reply["accept"] == "application/json"
    assert clients().ask("GET", LIVE, ("content-type", kind)).status == 200


def test_two_content_types_at_once_are_refused(clients: Clients) -> None:
    assert_refused(clients().ask("POST", LIVE, JSON, ("content-type", "text/plain")), 415)


@pytest.mark.parametrize("coding", ["gzip", "br", "identity, gzip", "x", "gzip, identity"])
def test_an_encoded_body_is_refused(coding: str, clients: Clients) -> None:
    reply = clients().ask("POST", LIVE, JSON, ("content-encoding", coding))
    assert_refused(reply, 415, "without Content-Encoding")
    assert reply["accept-encoding"] == "identity"


@pytest.mark.parametrize("coding", ["identity", " Identity "])
def test_a_body_that_is_encoded_as_itself_is_let_in(coding: str, clients: Clients) -> None:
    assert clients().ask("POST", LIVE, JSON, ("content-encoding", coding)).status == THROUGH


def test_every_answer_keeps_browsers_from_guessing_telling_and_embedding(clients: Clients) -> None:
    for reply in (
        clients().ask(),
        clients().ask("POST"),
        clients().ask(host="evil.example"),
        clients().ask(path="/x"),
    ):
        assert reply["x-content-type-options"] == "nosniff"
        assert reply["referrer-policy"] == "no-referrer"
        assert reply["cross-origin-resource-policy"] == "same-origin"
    assert clients(cors_origins="*").ask()["cross-origin-resource-policy"] == "cross-origin"


ODD_TEXT = st.text(max_size=40) | st.sampled_from(
    [
        "localhost",
        "[::1]",
        "http://localhost:8000",
        "https://shop.example",
        "*",
        "null",
        "/health/live/",
        "//",
        "/msr",
    ]
)
ODD_BYTES = ODD_TEXT.map(lambda text: text.encode("utf-8", "surrogatepass")) | st.binary(max_size=40)
ODD_SETTINGS = [
    {},
    {"host": "0.0.0.0"},
    {"allowed_hosts": "*.example.com,shop.example", "root_path": "/msr"},
    {
        "cors_origins": "https://shop.example",
        "trusted_proxies": "203.0.113.0/24",
        "api_key": "k",
        "read_key": "r",
    },
]


@settings(max_examples=300, derandomize=True, database=None)
@given(
    method=st.sampled_from(["GET", "HEAD", "POST", "OPTIONS", "DELETE"]) | st.text("ABCXYZ", min_size=1),
    path=ODD_TEXT.map(lambda text: "/" + text) | ODD_TEXT,
    host=st.none() | ODD_BYTES,
    headers=st.lists(
        st.tuples(
            st.sampled_from(
                ["host", "origin", "sec-fetch-site", "content-type", "content-encoding", "authorization",
                 "x-api-key", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto",
                 "access-control-request-method", "access-control-request-headers", "x-request-id"]
            ),
            ODD_BYTES | st.sampled_from([b"application/json", b"Basic a2s=", b"Basic :", b"Bearer k"]),
        ),
        max_size=5,
    ),
    given=st.sampled_from(ODD_SETTINGS),
)  # fmt: skip
def test_any_method_path_and_headers_are_answered_fairly(
    method: str,
    path: str,
    host: bytes | None,
    headers: list[tuple[str, bytes]],
    given: dict[str, Any],
    clients: Clients,
) -> None:
    if path.removeprefix("/msr").startswith(
        ("/users", "/items", "/docs", "/metrics", "/health/ready")
    ) or path in ("/", "/msr", "/msr/"):
        return  # these need services, which this client has not
    reply = clients(**given).ask(method, path, *headers, host=host)
    assert reply.status < 500
    if reply.status >= 400:
        assert orjson.loads(reply.body)["status"] == reply.status
        assert reply["content-type"] == "application/problem+json"


def test_the_client_of_these_tests_reaches_the_routes() -> None:
    client = AsgiClient()
    assert client.ask().status == 200
    assert client.ask("POST").status == THROUGH
    client.close()


def test_the_files_of_the_pages_are_kept_by_browsers_and_say_what_they_are(clients: Clients) -> None:
    for name, kind in (
        ("page.js", "text/javascript"),
        ("swagger-ui.css", "text/css"),
        ("icon.svg", "image/svg"),
    ):
        reply = clients().ask("GET", f"/assets/{name}")
        assert reply["cache-control"] == "public, max-age=31536000, immutable"
        assert reply["content-type"].startswith(kind)
        assert reply["content-security-policy"] == "default-src 'none'; sandbox"
    for name in ("README.md", "..", "../app.py", "%2e%2e", "index.html"):
        assert_refused(clients().ask("GET", f"/assets/{name}"), 404)
