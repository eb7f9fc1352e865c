"""Says why Redis failed, as a clause. No sentence holds any part of a URL, and so none of a password."""

from __future__ import annotations

import re
import ssl
from socket import gaierror

REFUSALS = {
    "WRONGPASS": "wrong user or password",
    "NOAUTH": "it asks for a password",
    "NOPERM": "its user has no permission for a command or key that the service needs",
    "READONLY": "read-only: it is a replica",
    "OOM": "out of memory: it cannot write",
    "MISCONF": "it cannot save to its disk and so cannot write",
    "NOREPLICAS": "too few of its replicas are there, and so it cannot write",
    "CLUSTERDOWN": "its cluster is down or has slots that no node serves",
    "MOVED": "it is a node of a cluster, which the service cannot use",
    "ASK": "it is a node of a cluster, which the service cannot use",
    "CROSSSLOT": "it is a node of a cluster, which the service cannot use",
    "TRYAGAIN": "it is a node of a cluster, which the service cannot use",
    "LOADING": "it is still loading its data",
    "MASTERDOWN": "it is a replica that has lost its master",
    "BUSY": "it is busy with a script",
    "UNKILLABLE": "it is busy with a script",
    "WRONGTYPE": "a key holds a value of another program",
}
"""Clause by the code with which Redis refuses a command."""

_PHRASES = {
    "invalid password": REFUSALS["WRONGPASS"],
    "invalid username-password pair": REFUSALS["WRONGPASS"],
    "without any password configured": "it has no password, and the URL names one",
    "Client sent AUTH": "it has no password, and the URL names one",
    "wrong number of arguments for 'auth'": "it knows no users, and the URL names one",
    "DB index is out of range": "it has no database of that number",
    "Invalid Database": "it has no database of that number",
    "SELECT is not allowed in cluster mode": REFUSALS["MOVED"],
    "max number of clients": "it takes no more connections",
    "unknown command": "it lacks a command that the service needs: Redis 5 or newer is needed",
}
_CODE = re.compile(rf"(?:^|[\s:-])({'|'.join(REFUSALS)})(?=\s|$)")


def refusal(error: BaseException) -> str | None:
    """Returns the code with which Redis refused a command, from ``REFUSALS``; None for another failure."""
    code = getattr(error, "status_code", None)  # the client takes the code of known refusals off the text
    if code in REFUSALS:
        return str(code)
    # A refusal inside a script is quoted in the text of the script's error.
    found = _CODE.search(str(error))
    return found[1] if found else None


def reason(error: BaseException) -> str:
    """Returns why an operation failed, as a clause."""
    code = refusal(error)
    if code is not None:
        return REFUSALS[code]
    text = str(error).lower()
    for phrase, clause in _PHRASES.items():
        if phrase.lower() in text:
            return clause
    cause: BaseException | None = error
    while cause is not None:  # the client wraps errors of the system
        for kind, clause in _SYSTEM:
            if isinstance(cause, kind):
                return clause
        cause = cause.__cause__ or cause.__context__
    return _BY_NAME.get(type(error).__name__, f"it failed ({type(error).__name__})")


_SYSTEM: tuple[tuple[type[BaseException], str], ...] = (
    (ssl.SSLCertVerificationError, "its certificate is not trusted"),
    (ssl.SSLError, "it does not speak TLS as the URL says"),
    (gaierror, "its host name is not known"),
    (FileNotFoundError, "there is no socket at its path"),
    (PermissionError, "the service may not open its socket"),
    (ConnectionRefusedError, "nothing listens at its address"),
    (TimeoutError, "it does not answer in time"),
)
_BY_NAME = {
    "AuthenticationError": REFUSALS["WRONGPASS"],
    "BusyLoadingError": REFUSALS["LOADING"],
    "ConnectionError": "the connection broke",
    "InvalidResponse": "what answers is no Redis",
    "MaxConnectionsError": "it takes no more connections",
    "TimeoutError": "it does not answer in time",
}
