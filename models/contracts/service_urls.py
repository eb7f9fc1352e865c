"""Reads the base URL of a service, as every tool that talks to one takes it.

A URL has ``http://`` or ``https://``, a host, and maybe a port and a path below which a proxy serves
(``https://shop.example/msr/``). No sentence quotes what was given, since it may hold a password.
"""

from __future__ import annotations

import re
from ipaddress import IPv6Address
from urllib.parse import quote, urlsplit

_SUCH_AS = "such as http://127.0.0.1:8000"
_LABEL = "[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"(?:{_LABEL}\.)*{_LABEL}\.?")


def service_url(text: str) -> str:
    """Returns a base URL in its one form: scheme and host in lower case, no slash at the end.

    Args:
        text: URL as it was given.

    Raises:
        ValueError: a request could not be sent there; the message begins "the URL of the service must".
    """
    text = text.strip()
    if not text.isprintable() or re.search(r"[\s\\]", text):
        raise ValueError("the URL of the service must not hold spaces, backslashes or control characters")
    if not re.match(r"https?://", text, re.IGNORECASE):
        raise ValueError(f"the URL of the service must begin with http:// or https://, {_SUCH_AS}")
    try:
        parts = urlsplit(text)
        if "@" in parts.netloc:
            raise _NotAllowedError("hold a user name or password: the key of a service goes into MSR_API_KEY")
        # A mark without anything after it is a slip too, so the text is asked and not the parts.
        if "?" in text or "#" in text:
            raise _NotAllowedError("hold a query (?…) or a fragment (#…)")
        host, port = _host(parts.hostname or ""), parts.port
        if port == 0 or parts.netloc.endswith(":"):
            raise ValueError
    except _NotAllowedError as error:
        raise ValueError(f"the URL of the service must not {error}") from None
    except ValueError:
        raise ValueError(
            f"the URL of the service must have a host and, if any, a port from 1 to 65535, {_SUCH_AS}"
        ) from None
    path = quote(parts.path.rstrip("/"), safe="/%:@!$&'()*+,;=~")
    return f"{parts.scheme}://{host}{'' if port is None else f':{port}'}{path}"


class _NotAllowedError(ValueError):
    """The URL holds a part that no base URL has."""


def _host(host: str) -> str:
    """Returns a host as it stands in a URL: a name in ASCII, or an IP address, IPv6 in brackets.

    Raises:
        ValueError: it is none.
    """
    if ":" in host and "%" not in host:  # a zone (%eth0) is known to one machine alone
        return f"[{IPv6Address(host)}]"
    name = host if host.isascii() else host.encode("idna").decode("ascii")
    if len(name) > 254 or not _NAME.fullmatch(name):
        raise ValueError("no host")
    return name
