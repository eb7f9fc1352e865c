"""Writes errors in OpenAI's format."""

from __future__ import annotations

from typing import Any

from service.simulator.contracts import RejectedError
from service.simulator.wire.server_sent_events import data_event

# Name of the fault: HTTP status, error type, error code.
_FAULTS = {
    "400": (400, "invalid_request_error", None),
    "401": (401, "invalid_request_error", "invalid_api_key"),
    "413": (413, "invalid_request_error", "request_too_large"),
    "429": (429, "requests", "rate_limit_exceeded"),
    "500": (500, "server_error", None),
    "504": (504, "server_error", None),
    "529": (503, "server_overloaded", None),  # 529 is Anthropic's status; OpenAI says 503
}


class OpenAIErrors:
    """Shapes errors as OpenAI does."""

    def rejection(self, error: RejectedError, request_id: str) -> dict[str, Any]:
        """See ErrorFormat."""
        detail = {"message": error.message, "type": error.kind, "param": error.param, "code": error.code}
        return {"error": detail}

    def fault(self, status: str, retry_after: float | None) -> RejectedError:
        """See ErrorFormat."""
        number, kind, code = _FAULTS[status]
        said = f"Simulated fault {status}."
        return RejectedError(number, kind, said, code=code, retry_after=retry_after)

    def no_schema(self) -> RejectedError:
        """See ErrorFormat."""
        said = "Unsupported parameter: 'response_format' is not supported with this model."
        return refused(said, "response_format", "unsupported_parameter")

    def event(self) -> bytes:
        """See ErrorFormat."""
        # In a stream the status is sent already, so the error is data.
        error = {"message": "Simulated fault.", "type": "server_error", "param": None, "code": None}
        return data_event({"error": error})


def refused(message: str, param: str | None = None, code: str | None = None) -> RejectedError:
    """Makes the error of a wrong request."""
    return RejectedError(400, "invalid_request_error", message, param=param, code=code)


def wrong_type(param: str, expected: str, value: object) -> RejectedError:
    """Makes the error of a parameter of the wrong JSON type."""
    got = "null" if value is None else type(value).__name__
    return refused(
        f"Invalid type for '{param}': expected {expected}, but got {got} instead.", param, "invalid_type"
    )
