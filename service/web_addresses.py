"""Reads hosts, origins and addresses of headers, settings and peers: in lower case, each in one form."""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import NamedTuple

ANY = "*"
"""Entry of a list that allows every host, or every origin."""

MAX_AUTHORITY = 270
"""Characters of the longest authority that is read: a DNS name of 253, a port, and some room."""

DEFAULT_PORTS = {"http": 80, "https": 443}

# A host is a name or an IPv4 address, or an IPv6 address in brackets (RFC 3986, 3.2.2). Names in container
# networks hold underscores; percent-encoded and other letters are in no DNS name.
_AUTHORITY = re.compile(
    r"(?:\[([0-9a-f:.]{2,45})\]|([a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_])?)\.?)(?::([0-9]{0,5}))?"
)
_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://(.+)")


class Authority(NamedTuple):
    """Host and port of a URL or of a ``Host`` header.

    Attributes:
        host: name in lower case without a final dot, or an IP address in its shortest form without brackets.
        port: port from 0 to 65535; None if none is given.
    """

    host: str
    port: int | None


def read_authority(text: str) -> Authority | None:
    """Returns what ``host[:port]`` names (RFC 9110, 7.2); None if it is malformed."""
    if len(text) > MAX_AUTHORITY or not (found := _AUTHORITY.fullmatch(text.lower())):
        return None
    in_brackets, name, digits = found.groups()
    port = int(digits) if digits else None
    if port is not None and port > 65_535:
        return None
    host = name or _shortest(in_brackets)
    return None if host is None else Authority(host, port)


def is_loopback(host: str) -> bool:
    """Returns whether a host, as ``Authority`` has it, names this machine to every client."""
    if host == "localhost" or host.endswith(".localhost"):  # reserved by RFC 6761, 6.3
        return True
    address = _address(host)
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return address is not None and address.is_loopback


def read_host(text: str) -> str | None:
    """Returns a host without a port, an IPv6 address with or without brackets; None if it is malformed."""
    authority = read_authority(f"[{text}]" if text.count(":") > 1 and not text.startswith("[") else text)
    return authority.host if authority and authority.port is None and not text.endswith(":") else None


def read_origin(text: str) -> tuple[str, Authority] | None:
    """Returns scheme and authority of ``scheme://host[:port]`` (RFC 6454, 7); None if it is malformed.

    The port is the scheme's own where none is given, and None for a scheme without one.
    """
    found = _ORIGIN.fullmatch(text.lower()) if len(text) <= MAX_AUTHORITY else None
    authority = read_authority(found[2]) if found else None
    if found is None or authority is None:
        return None
    port = DEFAULT_PORTS.get(found[1]) if authority.port is None else authority.port
    return found[1], authority._replace(port=port)


@lru_cache(maxsize=4_096)
def network_of(address: str) -> str:
    """Returns what counts as one client: an IPv4 address, or the /64 of an IPv6 address.

    A /64 is the least that one customer has. An IPv4 address that a socket of both families tells as an IPv6
    one (RFC 4291, 2.5.5.2) is that IPv4 address; a text that is no address stays, up to 64 characters.
    """
    parsed = _address(address)
    if parsed is None:
        return address[:64]
    if not isinstance(parsed, IPv6Address):
        return address
    if parsed.ipv4_mapped:
        return str(parsed.ipv4_mapped)
    return str(ip_network((int(parsed), 64), strict=False))


def _shortest(address: str) -> str | None:
    try:
        return str(IPv6Address(address))
    except ValueError:
        return None


def _address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None
