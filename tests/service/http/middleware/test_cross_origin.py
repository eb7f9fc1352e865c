"""Tests what pages of configured origins may do (CORS), and that all others may do nothing."""

from __future__ import annotations

import pytest
from asgi_client import LIVE, Clients, Reply, assert_refused

SHOP, OTHER = "https://shop.example", "https://evil.example"
SETTINGS = {"cors_origins": SHOP, "api_key": "k"}


def preflight(clients: Clients, origin: str, method: str = "POST", headers: str = "content-type") -> Reply:
    asked = [("access-control-request-method", method), ("access-control-request-headers", headers)]
    return clients(**SETTINGS).ask("OPTIONS", "/recommend", ("origin", origin), *asked)


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "DELETE"])
def test_a_preflight_of_the_shop_needs_no_key(method: str, clients: Clients) -> None:
    reply = preflight(clients, SHOP, method, "authorization, content-type, x-api-key, x-request-id")
    assert reply.status == 200
    assert reply["access-control-allow-origin"] == SHOP
    assert method in reply["access-control-allow-methods"]
    assert not reply["access-control-allow-credentials"]


def test_any_other_preflight_is_refused_with_a_problem(clients: Clients) -> None:
    for reply in (
        preflight(clients, OTHER),
        preflight(clients, "null"),
        preflight(clients, SHOP, "PUT"),
        preflight(clients, SHOP, headers="x-other"),
    ):
        assert_refused(reply, 403, "MSR_CORS_ORIGINS")
        assert "Origin" in reply["vary"]


def test_the_shop_s_scripts_can_read_answers_refusals_included(clients: Clients) -> None:
    from_shop, key = ("origin", SHOP), ("x-api-key", "k")
    client, json = clients(**SETTINGS), ("content-type", "application/json")
    for reply, status in (
        (client.ask("GET", LIVE, from_shop), 200),
        (client.ask("POST", "/nowhere", from_shop, key, json), 404),
        (client.ask("POST", "/nowhere", from_shop, json), 401),
        (client.ask("POST", "/nowhere", from_shop, key, ("content-type", "text/plain")), 415),
    ):
        assert reply.status == status
        assert reply["access-control-allow-origin"] == SHOP
        assert reply["access-control-expose-headers"] == "retry-after, x-request-id"
        assert "Origin" in reply["vary"]


def test_other_pages_can_read_nothing_and_write_nothing(clients: Clients) -> None:
    client = clients(**SETTINGS)
    assert not client.ask("GET", LIVE, ("origin", OTHER))["access-control-allow-origin"]
    refused = client.ask("POST", LIVE, ("origin", OTHER), ("x-api-key", "k"))
    assert_refused(refused, 403, "evil.example")
    assert not refused["access-control-allow-origin"]


def test_a_star_lets_every_page_call(clients: Clients) -> None:
    client = clients(cors_origins="*")
    for origin in (OTHER, "null"):
        reply = client.ask("POST", LIVE, ("origin", origin), ("sec-fetch-site", "cross-site"))
        assert reply.status == 405
        assert reply["access-control-allow-origin"] == "*"


def test_without_the_setting_there_is_no_preflight(clients: Clients) -> None:
    asked = (("origin", SHOP), ("access-control-request-method", "POST"))
    reply = clients().ask("OPTIONS", "/health/live", *asked)
    assert_refused(reply, 405)
    assert reply["allow"] == "GET, HEAD"
