"""Base URLs as people paste them, made into what each wire format's paths are appended to."""

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
    """The address under which a wire format's paths lie: ``/chat/completions``, or ``/v1/messages``.

    A host alone gets the version part that OpenAI's format needs, and Anthropic's loses the one that its path
    brings along. An endpoint that was pasted whole is cut off, and what stands before it is taken as it is.
    Any other path stays: ``/api/v1``, ``/openai/deployments/x``, ``/v1beta/openai``.

    Raises:
        ValueError: it is no address for calls; the message is a sentence without any part that may be secret.
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
    """Host and port of an address."""
    return urlsplit(address).netloc


def _checked(url: str) -> SplitResult:
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
        httpx2.URL(url)  # what the client refuses would stop a worker later
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
    """Whether it is an IP address or a name of letters, digits, hyphens and underscores, after IDNA."""
    if ":" in host:
        return "%" not in host and ip_address(host).version == 6
    try:
        name = httpx2.URL(scheme="http", host=host).raw_host.decode("ascii")
    except httpx2.InvalidURL:
        return False
    return (
        len(name) <= 254 and re.fullmatch(r"([A-Za-z0-9_-]{1,63}\.)*[A-Za-z0-9_-]{1,63}\.?", name) is not None
    )


def _names(query: str) -> str:
    """The names in a query, in brackets; never its values, and nothing that may be a value itself."""
    names = [name for name, _ in parse_qsl(query) if re.fullmatch(r"[A-Za-z][\w.-]{0,39}", name, re.ASCII)]
    return f" ({', '.join(names)})" if names else ""
