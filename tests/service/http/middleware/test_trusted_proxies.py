"""Tests whom the service takes for the client when proxies stand between."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.http.middleware.trusted_proxies import FORWARDED_HOST, TrustedProxies

PROXIES = ("10.0.0.0/8", "192.0.2.1", "fd00::/8")


async def seen(peer: str, *headers: tuple[str, str]) -> dict[str, Any]:
    """The request as the application inside sees it."""
    scopes: list[Any] = []

    async def inside(scope: Any, receive: Any, send: Any) -> None:
        scopes.append(scope)

    scope = {
        "type": "http",
        "scheme": "http",
        "client": (peer, 1234),
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers],
    }
    await TrustedProxies(inside, PROXIES)(scope, None, None)  # type: ignore[arg-type]
    return dict(scopes[0])


def forwarded(*values: str) -> list[tuple[str, str]]:
    return [("x-forwarded-for", value) for value in values]


@pytest.mark.parametrize("peer", ["10.1.2.3", "192.0.2.1", "fd00::5", "::ffff:10.1.2.3", "::ffff:192.0.2.1"])
async def test_a_trusted_proxy_names_the_client_its_scheme_and_the_host(peer: str) -> None:
    more = (("x-forwarded-proto", "https"), ("x-forwarded-host", "shop.example"))
    scope = await seen(peer, *forwarded("198.51.100.7"), *more)
    assert (scope["client"][0], scope["scheme"]) == ("198.51.100.7", "https")
    assert scope["state"][FORWARDED_HOST] == b"shop.example"


@pytest.mark.parametrize("peer", ["127.0.0.1", "192.0.2.2", "11.0.0.1", "::1", "::ffff:11.0.0.1", "unix"])
async def test_any_other_peer_is_the_client_whatever_it_writes(peer: str) -> None:
    more = (("x-forwarded-proto", "https"), ("x-forwarded-host", "shop.example"))
    scope = await seen(peer, *forwarded("198.51.100.7"), *more)
    assert (scope["client"], scope["scheme"]) == ((peer, 1234), "http")
    assert FORWARDED_HOST not in scope.get("state", {})


@pytest.mark.parametrize(
    ("values", "client"),
    [
        (["1.1.1.1, 198.51.100.7"], "198.51.100.7"),  # the first one is what the client claims
        (["1.1.1.1", "198.51.100.7"], "198.51.100.7"),  # the same in two headers
        (["1.1.1.1, 198.51.100.7, 10.0.0.9, 192.0.2.1"], "198.51.100.7"),
        (["10.0.0.9, 198.51.100.7"], "198.51.100.7"),  # a client that claims to be a proxy
        (["10.0.0.8, 10.0.0.9"], "10.0.0.8"),  # a proxy that asks for itself
        (["2001:db8::7"], "2001:db8::7"),
        (["[2001:db8::7]:443"], "2001:db8::7"),
        (["198.51.100.7:5555"], "198.51.100.7"),
        (["garbage"], "10.1.2.3"),
        (["1.1.1.1, garbage"], "10.1.2.3"),
        (["1.1.1.1, unknown, 10.0.0.9"], "10.1.2.3"),
        ([""], "10.1.2.3"),
        (["1.1.1.1,"], "10.1.2.3"),
        ([], "10.1.2.3"),
    ],
)
async def test_the_last_address_that_is_no_proxy_counts(values: list[str], client: str) -> None:
    assert (await seen("10.1.2.3", *forwarded(*values)))["client"][0] == client


@given(values=st.lists(st.text(st.characters(max_codepoint=255), max_size=60), max_size=4))
async def test_whatever_the_header_holds_the_client_has_an_address(values: list[str]) -> None:
    from ipaddress import ip_address

    ip_address((await seen("10.1.2.3", *forwarded(*values)))["client"][0])
