"""Refuses requests to a foreign host or from a foreign page, and bodies that are not JSON, unread."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from starlette.types import ASGIApp, Receive, Scope, Send

from service.http.middleware.hosts_and_origins import HostRule, OriginRule
from service.http.middleware.trusted_proxies import FORWARDED_HOST
from service.http.problems import problem

READING = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that neither write nor spend (RFC 9110, 9.2.1)."""

_HEADERS = frozenset({b"host", b"origin", b"sec-fetch-site", b"content-type", b"content-encoding"})
_JSON = re.compile(r"application/(?:[a-z0-9!#$&^_.+-]+\+)?json")
_USUAL, _MAX_CONTENT_TYPE = b"application/json", 200


class _Refusal(NamedTuple):
    status: int
    title: str
    detail: str
    headers: dict[str, str] | None = None


class Admission:
    """Answers 400 or 403 by the host and the origin of a request, and 415 by the kind of its body.

    A browser sends forms and plain text to any address without asking first, with the keys that it remembers;
    a JSON body it sends elsewhere only after a preflight.

    Args:
        app: application inside.
        hosts: rule for ``Host``, of every request.
        origins: rule for ``Origin``, of those that write or spend.
    """

    def __init__(self, app: ASGIApp, hosts: HostRule, origins: OriginRule) -> None:
        self._app = app
        self._hosts = hosts
        self._origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on, or refuses it."""
        refusal = self._refusal(scope) if scope["type"] == "http" else None
        if refusal is None:
            await self._app(scope, receive, send)
            return
        status, title, detail, headers = refusal
        answer = problem(status, title, detail, scope["state"]["request_id"], headers=headers)
        await answer(scope, receive, send)

    def _refusal(self, scope: Scope) -> _Refusal | None:
        found: dict[bytes, bytes] = {}
        for name, value in scope["headers"]:
            if name in _HEADERS:
                # Joined if repeated (RFC 9110, 5.3), which is no host, no origin and no content type.
                found[name] = found[name] + b", " + value if name in found else value
        host = found.get(b"host")
        # The usual request, whose host is known and which no page sends, takes the two short ways.
        if (host is None or not self._hosts.allows(host)) and (refusal := self._by_host(host, scope)):
            return refusal
        if scope["method"] in READING:
            return None
        from_page = b"origin" in found or b"sec-fetch-site" in found
        if from_page and (refusal := self._by_page(host, found, scope)):
            return refusal
        return _by_body(found)

    def _by_host(self, host: bytes | None, scope: Scope) -> _Refusal | None:
        if host is None:
            # Old health checks speak HTTP/1.0 without a Host; browsers never do.
            return _NO_HOST if scope["http_version"] == "1.1" else None
        allowed = self._hosts.allows(host)
        if allowed:
            return None
        return _NO_HOST if allowed is None else _unknown_host(host)

    def _by_page(self, host: bytes | None, found: dict[bytes, bytes], scope: Scope) -> _Refusal | None:
        origin, fetch_site = found.get(b"origin"), found.get(b"sec-fetch-site")
        hosts = tuple(name for name in (host, scope["state"].get(FORWARDED_HOST)) if name is not None)
        return None if self._origins.allows(origin, fetch_site, hosts) else _foreign_page(origin)


def _by_body(found: dict[bytes, bytes]) -> _Refusal | None:
    encoding, content_type = found.get(b"content-encoding"), found.get(b"content-type")
    if encoding and encoding.strip().lower() != b"identity":
        return _ENCODED
    # Without a content type it counts as JSON.
    if not content_type or content_type == _USUAL or is_json(content_type[: _MAX_CONTENT_TYPE + 1]):
        return None
    return _NOT_JSON


@lru_cache(1_024)
def is_json(content_type: bytes) -> bool:
    """Returns whether a ``Content-Type`` is JSON's in UTF-8 (RFC 8259, 8.1), whatever else it says."""
    kind, *parameters = content_type.decode("latin-1").lower().split(";")
    if len(content_type) > _MAX_CONTENT_TYPE or not _JSON.fullmatch(kind.strip()):
        return False
    pairs = (parameter.partition("=") for parameter in parameters)
    return all(
        value.strip().strip('"') in ("utf-8", "utf8") for name, _, value in pairs if name.strip() == "charset"
    )


_NO_HOST = _Refusal(400, "Bad request", "the Host header must name one host, as in `shop.example:8000`")
_ENCODED = _Refusal(
    415,
    "Unsupported media type",
    "send the body as it is, without Content-Encoding",
    {"Accept-Encoding": "identity"},
)
_NOT_JSON = _Refusal(
    415,
    "Unsupported media type",
    "send the body as JSON in UTF-8, with `Content-Type: application/json`",
    {"Accept": "application/json"},
)


def _unknown_host(host: bytes) -> _Refusal:
    detail = f"the service is not called {_shown(host)}; if it shall be, add the name to MSR_ALLOWED_HOSTS"
    return _Refusal(403, "Forbidden", detail)


def _foreign_page(origin: bytes | None) -> _Refusal:
    page = f"pages of {_shown(origin)}" if origin else "pages of other sites"
    return _Refusal(
        403,
        "Forbidden",
        f"{page} may not call this: add their origin to MSR_CORS_ORIGINS; for the service's own page behind "
        "a proxy, let the proxy pass the Host header on, or set MSR_TRUSTED_PROXIES",
    )


def _shown(header: bytes) -> str:
    return repr(header[:80].decode("latin-1"))
