"""The HTTP client under both SDKs: no timeouts (the gateway has them) and no proxy to this machine itself."""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import urlsplit

import httpx2


def http_client(base_url: str) -> httpx2.AsyncClient:
    """Make a client for one provider; whoever it is given to closes it."""
    limits = httpx2.Limits(max_connections=1000, max_keepalive_connections=100)
    return httpx2.AsyncClient(
        timeout=None,
        limits=limits,
        trust_env=not _loopback(base_url),
        verify=not base_url.startswith(
            "http://"
        ),  # plain HTTP needs no certificates, which take 0.1 s to load
    )


def _loopback(base_url: str) -> bool:
    host = urlsplit(base_url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
