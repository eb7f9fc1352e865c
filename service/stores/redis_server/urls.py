"""Checks the URLs of Redis before anything connects. No sentence shows a value: it may be of a password."""

from __future__ import annotations

import difflib
import re
from urllib.parse import parse_qsl, urlsplit

OPTIONS = {
    "db": r"\d{1,9}",
    "username": r".+",
    "password": r".+",
    "client_name": r"[!-~]+",
    "ssl_ca_certs": r".+",
    "ssl_certfile": r".+",
    "ssl_keyfile": r".+",
    "ssl_cert_reqs": r"required|optional|none",
    "ssl_check_hostname": r"(?i:true|false)",
}
"""Options that a URL may have after ``?``, and the form of their values. Others would change what the client
returns, or how long it waits, which the service decides."""

FORM = (
    "must be redis://[user:password@]host[:port][/database] with a port up to 65535, or "
    "unix:///path?db=number; in a password, write % as %25, # as %23, / as %2F, ? as %3F and @ as %40"
)


def problem_of(url: str) -> str | None:
    """Returns what is wrong with a URL, as a sentence that the setting's name begins; None if nothing is."""
    if not re.match(r"(rediss?|unix)://", url):
        return "must begin with redis://, rediss:// or unix://"
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - raises an error for one that is no number
    except ValueError:
        return FORM
    # The client ignores what follows a '#', and a path that is no database number: signs of a password with a
    # character that was not percent-encoded.
    # Likewise an '@' after '?'.
    unix = parts.scheme == "unix"
    path = parts.path if unix else re.fullmatch(r"/?\d{0,9}", parts.path)
    if "#" in url or "@" in parts.query or not path or not url.isprintable():
        return FORM
    numbered = not unix and parts.path.strip("/") != ""
    return _problem_of_options(parts.query, tls=parts.scheme == "rediss", numbered=numbered)


def address_of(url: str) -> tuple[str, int, int]:
    """Returns host or path, port and database of a valid URL, to compare two; all loopback is one host."""
    parts = urlsplit(url)
    database = dict(parse_qsl(parts.query)).get("db", "")
    if parts.scheme == "unix":
        return parts.path, 0, int(database or 0)
    host = (parts.hostname or "localhost").rstrip(".")
    loopback = host in ("localhost", "::1") or host.startswith("127.")
    return "localhost" if loopback else host, parts.port or 6379, int(database or parts.path.strip("/") or 0)


def _problem_of_options(query: str, *, tls: bool, numbered: bool) -> str | None:
    try:
        options = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    except ValueError:
        return FORM
    if len(options) > len({name for name, _ in options}):
        return "has an option twice: leave one out"
    if numbered and any(name == "db" for name, _ in options):
        return "names a database both in its path and as 'db': leave one out"
    problems = (_problem_of_option(name, value, tls=tls) for name, value in options)
    return next((problem for problem in problems if problem), None)


def _problem_of_option(name: str, value: str, *, tls: bool) -> str | None:
    shown = repr(name) if re.fullmatch(r"[a-z_]{1,40}", name) else "an option"
    if name not in OPTIONS:
        near = difflib.get_close_matches(name, OPTIONS, n=1)
        known = f"did you mean {near[0]!r}?" if near else f"it may have {', '.join(OPTIONS)}"
        return f"has {shown}, which the service does not take: {known}"
    if not re.fullmatch(OPTIONS[name], value):
        return f"has {shown} with a value that it cannot have"
    if name.startswith("ssl_") and not tls:
        return f"has {shown}, which is for rediss:// alone"
    return None
