"""The HTTP client under both SDKs: bounded, with no timeouts (the gateway has them), redirects or cookies."""

from __future__ import annotations

import os
from http.cookiejar import CookieJar, DefaultCookiePolicy
from importlib.util import find_spec
from ipaddress import ip_address
from urllib.parse import urlsplit
from urllib.request import getproxies

import httpx2

from service.errors import ConfigurationError
from service.lvlm.providers.wire.bounded_network import bound_connections, bound_response

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
            if request.headers.get(name) in (api_key, f"Bearer {api_key}"):  # another was set on purpose
                del request.headers[name]
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


def check_proxies(base_url: str) -> None:
    """See whether a client for this address can use the proxies that the environment names.

    Every one is looked at, also one that this address does not need: the client opens them all.

    Raises:
        ConfigurationError: it cannot; the message names the variable and never its value, which may hold a
            password.
    """
    proxies = getproxies()
    if _loopback(base_url) or "*" in proxies.get("no", "").replace(" ", "").split(","):
        return
    for scheme, url in proxies.items():
        if scheme in ("http", "https", "all") and url:
            _check_proxy(_variable(scheme), url if "://" in url else f"http://{url}")


def _check_proxy(variable: str, url: str) -> None:
    try:
        proxy = httpx2.Proxy(url).url
        usable = bool(proxy.host) and "%" not in proxy.host and 0 < (proxy.port or 1) <= 65535
    except (ValueError, httpx2.InvalidURL):
        usable = False
    if not usable:
        raise ConfigurationError(
            f"{variable} is no proxy that can be used; its form is [user:password@]host:port after http://, "
            "https:// or socks5://"
        )
    if proxy.scheme.startswith("socks") and find_spec("socksio") is None:
        raise ConfigurationError(
            f"{variable} names a SOCKS proxy, which needs one more package: "
            "python -m pip install -c constraints.txt socksio"
        )


def _variable(scheme: str) -> str:
    """The variable that names the proxy for a scheme; the lower-case one counts if both are set."""
    lower = f"{scheme}_proxy"
    return lower if os.environ.get(lower) else lower.upper()


def _loopback(base_url: str) -> bool:
    host = urlsplit(base_url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
