"""Makes the HTTP client under the vendors' SDKs: with bounded sizes, without timeouts, redirects and cookies.

Timeouts are the gateway's. Sizes are bounded in ``bounded_network``.
"""

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

_KEY_HEADERS = ("authorization", "x-api-key")  # in which the SDKs of OpenAI and Anthropic send the key


def http_client(base_url: str, *, key_header: str = "", api_key: str = "") -> httpx2.AsyncClient:
    """Makes a client for one provider; the caller closes it. Loopback addresses are called without a proxy.

    Args:
        base_url: base URL of the provider.
        key_header: header that carries the key instead of the SDK's own; empty for the SDK's own.
        api_key: key that the header carries.
    """

    async def move_key(request: httpx2.Request) -> None:
        for name in _KEY_HEADERS:
            # A header with another value was configured on purpose and stays.
            if request.headers.get(name) in (api_key, f"Bearer {api_key}"):
                del request.headers[name]
        request.headers[key_header] = api_key

    client = httpx2.AsyncClient(
        timeout=None,
        limits=httpx2.Limits(max_connections=1000, max_keepalive_connections=100),
        follow_redirects=False,  # another host must not be sent the key
        # Answers are small, and a compressed one could inflate to any size.
        headers={"accept-encoding": "identity"},
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        event_hooks={
            "request": [move_key] if key_header else [],
            "response": [bound_response],
        },
        trust_env=not _loopback(base_url),  # proxies of the environment
        # Plain HTTP needs no certificates, which take 0.1 s to load.
        verify=not base_url.startswith("http://"),
    )
    bound_connections(client)
    return client


def check_proxies(base_url: str) -> None:
    """Checks that a client for this address can use the proxies that the environment names.

    Every proxy is checked, also one that this address does not need: the client prepares all of them.

    Raises:
        ConfigurationError: a proxy cannot be used; the message names the variable and never its value, which
            may hold a password.
    """
    proxies = getproxies()
    if _loopback(base_url) or "*" in proxies.get("no", "").replace(" ", "").split(","):
        return
    for scheme, url in proxies.items():
        if scheme in ("http", "https", "all") and url:
            _check_proxy(_variable(scheme), url if "://" in url else f"http://{url}")


def _check_proxy(variable: str, url: str) -> None:
    """Raises ConfigurationError for a proxy that the HTTP client would refuse, perhaps only at a call."""
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
    """The variable that names the proxy for a scheme; as in urllib the lower-case one wins."""
    lower = f"{scheme}_proxy"
    return lower if os.environ.get(lower) else lower.upper()


def _loopback(base_url: str) -> bool:
    """Whether an address is on this machine, so that no proxy can reach it."""
    host = urlsplit(base_url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
