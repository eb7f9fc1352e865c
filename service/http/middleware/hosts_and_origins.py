"""Decides by which host names the service may be called, and which web pages may make it write or spend."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from service.web_addresses import (
    ANY,
    DEFAULT_PORTS,
    MAX_AUTHORITY,
    Authority,
    is_loopback,
    read_authority,
    read_host,
    read_origin,
)

REMEMBERED = 1_024
"""Number of different headers whose verdict is remembered; clients send few, and reading one takes 2 µs."""


class HostRule:
    """Tells by which hosts the service may be called: loopback names, the address it listens on, and a list.

    A page whose own DNS name is suddenly that of this machine (DNS rebinding) is of the same origin for its
    browser; only its ``Host`` header gives it away. Loopback names cannot be such a page's.

    Args:
        listens_on: host that the service listens on (``MSR_HOST``).
        allowed: names, ``*.example.com``, addresses or ``*`` (``MSR_ALLOWED_HOSTS``). Empty allows
            only loopback names where the service listens on one, else any host.
    """

    def __init__(self, listens_on: str, allowed: Iterable[str]) -> None:
        own = read_host(listens_on) or listens_on
        entries = set(allowed) or (set() if is_loopback(own) else {ANY})
        self._any = ANY in entries
        self._names = {own, *(entry for entry in entries if not entry.startswith("*."))}
        self._endings = tuple(entry[1:] for entry in entries if entry.startswith("*."))
        self._verdict = lru_cache(REMEMBERED)(self._read)

    def allows(self, header: bytes) -> bool | None:
        """Returns whether a ``Host`` header names an allowed host, with any port; None if it names none."""
        return self._verdict(header) if len(header) <= MAX_AUTHORITY else None

    def _read(self, header: bytes) -> bool | None:
        authority = read_authority(header.decode("latin-1"))
        if authority is None:
            return None
        host = authority.host
        return self._any or host in self._names or is_loopback(host) or host.endswith(self._endings)


class OriginRule:
    """Tells whether a request that writes or spends may come from the web page that it comes from, if any.

    The decision is that of Go's ``http.CrossOriginProtection``: browsers say it in ``Sec-Fetch-Site`` (Fetch
    Metadata), older ones and those on plain HTTP in ``Origin``; a request with neither is no browser's.

    Args:
        allowed: origins, or ``*`` for any (``MSR_CORS_ORIGINS``).
    """

    def __init__(self, allowed: Iterable[str]) -> None:
        self._allowed = frozenset(allowed)
        self._verdict = lru_cache(REMEMBERED)(self._is_same)

    def allows(self, origin: bytes | None, fetch_site: bytes | None, hosts: tuple[bytes, ...]) -> bool:
        """Returns whether a request may go on.

        Args:
            origin: ``Origin`` header.
            fetch_site: ``Sec-Fetch-Site`` header.
            hosts: hosts by which the client may have called the service.
        """
        if origin is None:
            # ``none``: typed into the address bar.
            return fetch_site is None or fetch_site in (b"same-origin", b"none")
        if ANY in self._allowed or origin.decode("latin-1").lower() in self._allowed:
            return True
        if origin == b"null" or len(origin) > MAX_AUTHORITY:  # a sandboxed frame, a file, a redirect
            return False
        if fetch_site is not None:
            return fetch_site == b"same-origin"
        return any(self._verdict(origin, host) for host in hosts if len(host) <= MAX_AUTHORITY)

    @staticmethod
    def _is_same(origin: bytes, host: bytes) -> bool:
        """Returns whether an origin is the host's; its scheme may be another, as behind a proxy with TLS."""
        read, called = read_origin(origin.decode("latin-1")), read_authority(host.decode("latin-1"))
        if read is None or called is None or read[0] not in DEFAULT_PORTS:
            return False
        port = DEFAULT_PORTS[read[0]] if called.port is None else called.port
        return read[1] == Authority(called.host, port)
