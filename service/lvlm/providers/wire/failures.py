"""Classifies vendors' HTTP statuses, error types and headers as kinds of failure, for all wire formats.

In: status, decoded body and headers of an answer that is an error. Out: a ProviderError. Its message never
holds the vendor's prose, which may quote prompts and keys. Which field a refusal names is the matter of
``refused_fields``.
"""

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
    # An account without credit gets a 429 like a busy one, but waiting does not help: its owner must act.
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
_NAME = re.compile(r"[\w.\[\]-]{1,80}")  # a name such as messages[0].content, and never a sentence
_BY_STATUS = {
    401: FailureKind.AUTHENTICATION,
    402: FailureKind.AUTHENTICATION,
    403: FailureKind.AUTHENTICATION,
    408: FailureKind.TIMEOUT,
    409: FailureKind.SERVER,
    429: FailureKind.RATE_LIMITED,
    503: FailureKind.OVERLOADED,
    504: FailureKind.TIMEOUT,
    529: FailureKind.OVERLOADED,  # Anthropic's own
}


def failure(
    status: int, body: object, headers: Mapping[str, str] | None = None, request_id: str | None = None
) -> ProviderError:
    """Returns the error for a response that is one.

    The message holds the vendor's status, type and code, never its prose, which quotes requests and keys.

    Args:
        status: HTTP status; 200 for an error event inside a stream, which is classified by its type.
        body: decoded error object of either vendor, or any other value.
        headers: headers of the response, by lower-case names or case-insensitive.
        request_id: vendor's id of the call, for questions to its support.
    """
    if 300 <= status < 400:
        return _redirected(status, headers or {})
    names = error_names(body)
    # Gateways put the status of the server behind them into the code of an error event.
    inner = next((int(name) for name in names if re.fullmatch("[45][0-9][0-9]", name)), 0)
    kind = _kind(status if status >= 400 else inner, names)
    facts = [f"{status}" if status >= 400 else "an error inside the stream", *names]
    if request_id:
        facts.append(f"request {request_id}")
    return ProviderError(kind, f"the provider answered {', '.join(facts)}", _retry_after(headers or {}))


def error_names(body: object) -> list[str]:
    """Returns the code, type and parameter that an error names; none that looks like prose."""
    fields = _error_fields(body)
    return [str(each) for each in fields if isinstance(each, str | int) and _NAME.fullmatch(str(each))]


def _redirected(status: int, headers: Mapping[str, str]) -> ProviderError:
    """The error for a redirect, which is not followed: the operator decides whether the key may go there."""
    try:  # without its query and user part, which may be secret
        to = urlsplit(headers.get("location", ""))
        address = (
            f"{to.scheme}://{to.hostname}{f':{to.port}' if to.port else ''}{to.path}"
            if to.hostname
            else to.path
        )
    except ValueError:
        address = ""
    link = address[:200] if address.isascii() and address.isprintable() else ""
    return ProviderError(
        FailureKind.REQUEST,
        f"the provider answered {status}: it is now at {link or 'an address that it does not name'}; set its "
        "base URL to the new address (a redirect is not followed with a key)",
    )


def _kind(status: int, names: list[str]) -> FailureKind:
    by_type = next((_BY_TYPE[name] for name in names if name in _BY_TYPE), None)
    # The status decides before the type, except for an account without credit.
    if status == 429 and by_type is FailureKind.AUTHENTICATION:
        return by_type
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    if 400 <= status < 500:
        return FailureKind.REQUEST
    return by_type or FailureKind.SERVER


def _error_fields(body: object) -> tuple[object, ...]:
    """Code, type and parameter of an error, which may be the body itself or its member ``error``."""
    inner = record(record(body).get("error"))
    error = inner or record(body)
    return error.get("code"), error.get("type"), error.get("param")


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait, from OpenAI's ``retry-after-ms`` or ``retry-after`` (seconds or a date; RFC 9110)."""
    try:
        if "retry-after-ms" in headers:
            return max(0.0, float(headers["retry-after-ms"]) / 1000)
        return max(0.0, float(headers["retry-after"]))
    except KeyError:
        return None
    except ValueError:
        return _until(headers.get("retry-after", ""))


def _until(date: str) -> float | None:
    """Seconds from now until a date, at least 0; None for no date."""
    try:
        return max(0.0, parsedate_to_datetime(date).timestamp() - time())
    except (ValueError, TypeError, OverflowError):
        return None
