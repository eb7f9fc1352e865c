"""The HTTP client under both SDKs: bounded, with no timeouts (the gateway has them), redirects or cookies."""

from __future__ import annotations

from http.cookiejar import CookieJar, DefaultCookiePolicy
from ipaddress import ip_address
from urllib.parse import urlsplit

import httpx2

from service.lvlm.providers.bounded_network import bound_connections, bound_response

_KEY_HEADERS = ("authorization", "x-api-key")  # in which the SDKs send it


def http_client(base_url: str, *, key_header: str = "", api_key: str = "") -> httpx2.AsyncClient:
    """Make a client for one provider, to be closed by its owner; this machine is asked without a proxy.

    Args:
        base_url: of the provider.
        key_header: the header in which the key goes instead of the SDK's; empty for the SDK's.
        api_key: what goes there.
    """

    async def readdress_key(request: httpx2.Request) -> None:
        for name in _KEY_HEADERS:
            request.headers.pop(name, None)
        request.headers[key_header] = api_key

    limits = httpx2.Limits(max_connections=1000, max_keepalive_connections=100)
    client = httpx2.AsyncClient(
        timeout=None,
        limits=limits,
        follow_redirects=False,  # another host must not be sent the key
        headers={
            "accept-encoding": "identity"
        },  # answers are small, and inflating is what a server may abuse
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        event_hooks={
            "request": [readdress_key] if key_header else [],
            "response": [bound_response],
        },
        trust_env=not _loopback(base_url),
        verify=not base_url.startswith(
            "http://"
        ),  # plain HTTP needs no certificates, which take 0.1 s to load
    )
    bound_connections(client)
    return client


def _loopback(base_url: str) -> bool:
    host = urlsplit(base_url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
