"""Tests that hosts, origins and addresses are read in one way, and never with an exception."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from service.web_addresses import is_loopback, network_of, read_authority, read_host, read_origin


@given(st.text(st.sampled_from("abz09.-_:[]@/%ÄK\x00 ")) | st.text())
@example("[::1]")
@example("[::ffff:1.2.3.4]:80")
def test_whatever_is_read_reads_the_same_again(text: str) -> None:
    authority = read_authority(text)
    if authority is not None:
        shown = f"[{authority.host}]" if ":" in authority.host else authority.host
        assert read_authority(shown) == (authority.host, None)
        assert read_host(authority.host) == authority.host
        is_loopback(authority.host)
    read_origin(text)
    read_origin(f"http://{text}")


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("Shop.Example", "shop.example", None),
        ("shop.example.:80", "shop.example", 80),
        ("shop.example:", "shop.example", None),
        ("[2001:DB8:0:0::1]:0", "2001:db8::1", 0),
    ],
)
def test_a_host_has_one_form(text: str, host: str, port: int | None) -> None:
    assert read_authority(text) == (host, port)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("localhost", True), ("x.localhost", True), ("127.1.2.3", True), ("::1", True),
     ("::ffff:127.0.0.1", True), ("localhost.example", False), ("0.0.0.0", False), ("::", False),
     ("10.0.0.1", False), ("128.0.0.1", False)],
)  # fmt: skip
def test_loopback_is_this_machine_to_every_client(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


@pytest.mark.parametrize(
    ("address", "network"),
    [("192.0.2.7", "192.0.2.7"), ("::ffff:192.0.2.7", "192.0.2.7"),
     ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"), ("fe80::9%eth0", "fe80::/64"), ("x" * 80, "x" * 64),
     ("", "")],
)  # fmt: skip
def test_a_client_is_an_ipv4_address_or_an_ipv6_network(address: str, network: str) -> None:
    assert network_of(address) == network
