"""Believes what trusted proxies say of the client: its address, its scheme and the host that it asked for."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Network, ip_address, ip_network
from typing import Any, cast

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

FORWARDED_HOST = "forwarded_host"
"""Key in ``scope["state"]`` of the first entry of a trusted proxy's ``X-Forwarded-Host``, as bytes."""

_MAPPED_BITS = 96  # ::ffff:0:0/96 holds the IPv4 addresses (RFC 4291, 2.5.5.2)


class TrustedProxies:
    """Sets client and scheme of requests as uvicorn's own middleware does, where the peer is a trusted proxy.

    Of several addresses in ``X-Forwarded-For`` the last one that is no trusted proxy's counts: each proxy
    appends the address of its peer, so what a client writes itself stands before it. If that entry is
    no address, the client is the proxy.

    Args:
        app: application inside.
        proxies: addresses and networks of the proxies (``MSR_TRUSTED_PROXIES``).
    """

    def __init__(self, app: ASGIApp, proxies: Iterable[str]) -> None:
        self._app = app
        trusted = [form for proxy in proxies for form in _forms(proxy)]
        # The type of an application is written in two ways, by Starlette and by uvicorn.
        self._headers = ProxyHeadersMiddleware(cast(Any, self._with_address), trusted)
        self._trusted = self._headers.trusted_hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on with the client that the proxy names."""
        client = scope.get("client")
        if scope["type"] != "http" or client is None or client[0] not in self._trusted:
            await self._app(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        for name, value in scope["headers"]:
            if name == b"x-forwarded-host":
                state[FORWARDED_HOST] = value.partition(b",")[0].strip()
                break
        state["peer"] = client
        await self._headers(cast(Any, scope), cast(Any, receive), cast(Any, send))

    async def _with_address(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            ip_address(scope["client"][0])
        except ValueError:
            scope["client"] = scope["state"]["peer"]
        await self._app(scope, receive, send)


def _forms(proxy: str) -> list[str]:
    """Returns a network, and for IPv4 the same one as a socket of both families names its peers."""
    network = ip_network(proxy)
    forms = [str(network)]
    if isinstance(network, IPv4Network):
        forms.append(f"::ffff:{network.network_address}/{_MAPPED_BITS + network.prefixlen}")
    return forms
