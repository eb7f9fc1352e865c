"""Defines the errors that are shown to a client, with the HTTP status of each, or to the operator."""

from __future__ import annotations


class ServiceError(Exception):
    """Base of all errors that are answered as problem documents (RFC 9457).

    Attributes:
        status: HTTP status code.
        title: title of the problem document, the same for every occurrence of the type.
        detail: sentence about what is wrong this time and what to do.
        retry_after: seconds after which the client may try again, sent as ``Retry-After``; None if unknown.
    """

    status = 500
    title = "Internal error"

    def __init__(self, detail: str, retry_after: int | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.retry_after = retry_after


class NotFoundError(ServiceError):
    """The user, item, image or path does not exist."""

    status = 404
    title = "Not found"


class InvalidRequestError(ServiceError):
    """The request is well-formed HTTP, and a value in it is wrong or names something that does not exist."""

    status = 422
    title = "Invalid request"


class UnauthorizedError(ServiceError):
    """A key is required and was missing or wrong."""

    status = 401
    title = "Unauthorized"


class OverloadedError(ServiceError):
    """The queue of waiting requests is full."""

    status = 429
    title = "Too many requests"


class UnavailableError(ServiceError):
    """A part that this request needs, such as a store, does not work at the moment."""

    status = 503
    title = "Service unavailable"


class FullError(ServiceError):
    """A store has no room for what the request brings."""

    status = 507
    title = "Insufficient storage"


class ConfigurationError(Exception):
    """A setting is wrong: the process prints the message and ends before it serves anything."""
