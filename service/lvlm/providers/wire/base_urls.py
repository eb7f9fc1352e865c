"""Normalises base URLs as operators paste them, so that a wire format's path can be appended to each.

In: an address of the settings. Out: an address without a trailing slash, or a ValueError whose message is
fit for the operator and holds no secret. No connection is made.
"""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import Literal
from urllib.parse import SplitResult, parse_qsl, urlsplit

import httpx2

Wire = Literal["openai", "anthropic"]

OPENAI_URL = "https://api.openai.com/v1"
ANTHROPIC_URL = "https://api.anthropic.com"


def normalised(url: str, wire: Wire) -> str:
    """Returns the address to which ``/chat/completions`` or ``/v1/messages`` is appended.

    A host without a path gets ``/v1`` in OpenAI's format; in Anthropic's a final ``/v1`` is removed, since
    its own path brings one. An endpoint that was pasted whole loses its own path. Any other path stays:
    ``/api/v1``, ``/openai/deployments/x``, ``/v1beta/openai``.

    Args:
        url: address as the operator wrote it.
        wire: wire format that the server speaks.

    Raises:
        ValueError: the address cannot be called; the message never quotes a part that may be secret.
    """
    parts = _checked(url.strip())
    path = parts.path.rstrip("/")
    if wire == "anthropic":
        path = path.removesuffix("/v1/messages").removesuffix("/v1")
    elif path.endswith("/chat/completions"):
        path = path.removesuffix("/chat/completions")
    else:
        path = path or "/v1"
    return f"{parts.scheme}://{parts.netloc}{path.rstrip('/')}"


def host_of(address: str) -> str:
    """Returns the host and port of an address, as ``api.openai.com`` or ``localhost:8000``."""
    return urlsplit(address).netloc


def _checked(url: str) -> SplitResult:
    """Splits an address, or raises ValueError for one that cannot be called."""
    if not url.isprintable() or " " in url:
        raise ValueError("must be an address without spaces and control characters")
    try:
        parts = urlsplit(url)
        sound = parts.port != 0 and _is_host(parts.hostname or "")
    except ValueError:
        raise ValueError("must be an address with a host and, if any, a port up to 65535") from None
    if parts.scheme not in ("http", "https"):
        raise ValueError("must begin with http:// or https://")
    if "@" in parts.netloc:
        raise ValueError("must not hold a user name or password: a key goes into a variable of its own")
    try:
        httpx2.URL(url)  # stricter than urlsplit: what the HTTP client refuses would stop a worker later
    except httpx2.InvalidURL:
        sound = False
    if not sound:
        raise ValueError("must be an address with a host and, if any, a port up to 65535")
    if parts.query:
        raise ValueError(f"must not hold a query{_names(parts.query)}: it goes into the option 'query'")
    if parts.fragment:
        raise ValueError("must not hold a fragment (#…)")
    return parts


def _is_host(host: str) -> bool:
    """Whether a host is an IP address or, after IDNA, a name of letters, digits, hyphens and underscores."""
    if ":" in host:  # IPv6; a zone ("%eth0") cannot be part of a URL's host here
        return "%" not in host and ip_address(host).version == 6
    try:
        name = httpx2.URL(scheme="http", host=host).raw_host.decode("ascii")
    except httpx2.InvalidURL:
        return False
    # Lengths of RFC 1035: 63 octets a label, 253 a name, and a final dot.
    return (
        len(name) <= 254 and re.fullmatch(r"([A-Za-z0-9_-]{1,63}\.)*[A-Za-z0-9_-]{1,63}\.?", name) is not None
    )


def _names(query: str) -> str:
    """The parameters' names in a query, in brackets, for a message; never a value, which may be a key."""
    names = [name for name, _ in parse_qsl(query) if re.fullmatch(r"[A-Za-z][\w.-]{0,39}", name, re.ASCII)]
    return f" ({', '.join(names)})" if names else ""
