"""What vendors' statuses, error types and headers mean: one table for both wire formats."""

from __future__ import annotations

import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from time import time
from urllib.parse import urlsplit

from service.lvlm.providers.base import FailureKind, ProviderError
from service.lvlm.providers.wire.untrusted_json import record

_BY_TYPE = {
    **dict.fromkeys(
        ("rate_limit_error", "rate_limit_exceeded", "requests", "tokens"), FailureKind.RATE_LIMITED
    ),
    **dict.fromkeys(("overloaded_error", "server_overloaded", "engine_overloaded"), FailureKind.OVERLOADED),
    **dict.fromkeys(("api_error", "server_error", "internal_error"), FailureKind.SERVER),
    "timeout_error": FailureKind.TIMEOUT,
    # An account without credit is told to wait, in vain: only its owner can help.
    **dict.fromkeys(
        (
            "authentication_error",
            "permission_error",
            "invalid_api_key",
            "insufficient_quota",
            "billing_error",
        ),
        FailureKind.AUTHENTICATION,
    ),
    **dict.fromkeys(
        (
            "invalid_request_error",
            "not_found_error",
            "request_too_large",
            "context_length_exceeded",
            "model_not_found",
        ),
        FailureKind.REQUEST,
    ),
}
_NAME = re.compile(r"[\w.\[\]-]{1,80}")
_BY_STATUS = {
    401: FailureKind.AUTHENTICATION,
    402: FailureKind.AUTHENTICATION,
    403: FailureKind.AUTHENTICATION,
    408: FailureKind.TIMEOUT,
    409: FailureKind.SERVER,
    429: FailureKind.RATE_LIMITED,
    503: FailureKind.OVERLOADED,
    504: FailureKind.TIMEOUT,
    529: FailureKind.OVERLOADED,
}


def failure(
    status: int, body: object, headers: Mapping[str, str] | None = None, request_id: str | None = None
) -> ProviderError:
    """The error for an answer that is one.

    The message holds the vendor's status, type and code, never its prose: that quotes requests and keys.

    Args:
        status: HTTP status; 200 for an error event inside a stream, which is classified by its type.
        body: the decoded error object of either vendor, or anything else.
        headers: of the response.
        request_id: the vendor's name for the call, to ask its support with.
    """
    if 300 <= status < 400:
        return _redirected(status, headers or {})
    words = says_what(body)
    inner = next((int(word) for word in words if re.fullmatch("[45][0-9][0-9]", word)), 0)
    kind = _kind(status if status >= 400 else inner, words)
    told = [f"{status}" if status >= 400 else "an error inside the stream", *words]
    if request_id:
        told.append(f"request {request_id}")
    return ProviderError(kind, f"the provider answered {', '.join(told)}", _retry_after(headers or {}))


def says_what(body: object) -> list[str]:
    """The type, code and parameter that an error names, as far as they are names."""
    return [str(word) for word in _words(body) if isinstance(word, str | int) and _NAME.fullmatch(str(word))]


def _redirected(status: int, headers: Mapping[str, str]) -> ProviderError:
    """The error for an address that has changed: its owner must say that the key may go there."""
    try:
        to = urlsplit(headers.get("location", ""))
        address = (
            f"{to.scheme}://{to.hostname}{f':{to.port}' if to.port else ''}{to.path}"
            if to.hostname
            else to.path
        )
    except ValueError:
        address = ""
    told = address[:200] if address.isascii() and address.isprintable() else ""
    return ProviderError(
        FailureKind.REQUEST,
        f"the provider answered {status}: it is now at {told or 'an address that it does not name'}; set its "
        "base URL to the new address (a redirect is not followed with a key)",
    )


def _kind(status: int, words: list[str]) -> FailureKind:
    by_type = next((_BY_TYPE[word] for word in words if word in _BY_TYPE), None)
    if status == 429 and by_type is FailureKind.AUTHENTICATION:
        return by_type
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    if 400 <= status < 500:
        return FailureKind.REQUEST
    return by_type or FailureKind.SERVER


def _words(body: object) -> tuple[object, ...]:
    """Code, type and parameter, whether the error stands alone (OpenAI) or in an envelope (Anthropic)."""
    inner = record(record(body).get("error"))
    error = inner or record(body)
    return error.get("code"), error.get("type"), error.get("param")


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait, from ``retry-after-ms`` or ``retry-after`` (seconds or a date)."""
    try:
        if "retry-after-ms" in headers:
            return max(0.0, float(headers["retry-after-ms"]) / 1000)
        return max(0.0, float(headers["retry-after"]))
    except KeyError:
        return None
    except ValueError:
        return _until(headers.get("retry-after", ""))


def _until(date: str) -> float | None:
    try:
        return max(0.0, parsedate_to_datetime(date).timestamp() - time())
    except (ValueError, TypeError, OverflowError):
        return None
