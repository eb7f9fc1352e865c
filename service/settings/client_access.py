"""Checks the settings that say where the service is shown and which hosts, pages and proxies it believes."""

from __future__ import annotations

import re
from ipaddress import ip_network
from typing import Annotated

from pydantic import AfterValidator

from service.lvlm.providers.configured_provider import Names
from service.web_addresses import ANY, DEFAULT_PORTS, read_host, read_origin

ROUTES = ("recommend", "events", "items", "users", "health", "metrics", "docs", "assets", "openapi.json")
"""First parts of our routes' paths: a prefix that began with one could not be told from a path without it."""

_PREFIX = re.compile(r"(?:/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+")


def _check_root_path(text: str) -> str:
    prefix = text.rstrip("/")
    if not prefix:
        return ""
    if not _PREFIX.fullmatch(prefix):
        raise ValueError(
            "must be a path such as /msr: a slash, then letters, digits, '.', '_', '~', '-' and '/'"
        )
    if prefix.split("/")[1] in ROUTES:
        raise ValueError(f"must not begin with a route of the service: /{', /'.join(ROUTES)}")
    return prefix


def _check_hosts(entries: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(_checked_host(entry) for entry in entries)


def _checked_host(entry: str) -> str:
    if entry == ANY:
        return entry
    wildcard = "*." if entry.startswith("*.") else ""
    host = read_host(entry.removeprefix(wildcard))
    if host is None:
        raise ValueError(
            f"{entry[:80]!r} is no host: write a name, *.example.com or an address, without a port"
        )
    return wildcard + host


def _check_origins(entries: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(entry if entry == ANY else _checked_origin(entry) for entry in entries)


def _checked_origin(entry: str) -> str:
    """Returns an origin as browsers send it: in lower case, without the scheme's own port."""
    read = read_origin(entry.removesuffix("/"))
    if read is None:
        raise ValueError(
            f"{entry[:80]!r} is no origin: write scheme://host or scheme://host:port, without a path"
        )
    scheme, (host, port) = read
    shown = f"[{host}]" if ":" in host else host
    return f"{scheme}://{shown}" + ("" if port in (None, DEFAULT_PORTS.get(scheme)) else f":{port}")


def _check_proxies(entries: tuple[str, ...]) -> tuple[str, ...]:
    for entry in entries:
        try:
            network = ip_network(entry)
        except ValueError:
            raise ValueError(
                f"{entry[:80]!r} is neither an address nor a network: write 10.0.0.5 or 10.0.0.0/8"
            ) from None
        if network.prefixlen == 0:
            raise ValueError(f"{entry} is every address: any client could then claim to be another")
    return entries


RootPath = Annotated[str, AfterValidator(_check_root_path)]
Hosts = Annotated[Names, AfterValidator(_check_hosts)]
Origins = Annotated[Names, AfterValidator(_check_origins)]
Proxies = Annotated[Names, AfterValidator(_check_proxies)]
