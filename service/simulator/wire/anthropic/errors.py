"""Writes errors in Anthropic's format."""

from __future__ import annotations

from typing import Any

from service.simulator.contracts import RejectedError
from service.simulator.wire.server_sent_events import named_event

# HTTP status: error type.
_FAULTS = {
    "400": "invalid_request_error",
    "401": "authentication_error",
    "413": "request_too_large",
    "429": "rate_limit_error",
    "500": "api_error",
    "504": "timeout_error",
    "529": "overloaded_error",
}


class AnthropicErrors:
    """Shapes errors as Anthropic does."""

    def rejection(self, error: RejectedError, request_id: str) -> dict[str, Any]:
        """See ErrorFormat."""
        detail = {"type": error.kind, "message": error.message}
        return {"type": "error", "error": detail, "request_id": request_id}

    def fault(self, status: str, retry_after: float | None) -> RejectedError:
        """See ErrorFormat."""
        said = f"Simulated fault {status}."
        return RejectedError(int(status), _FAULTS[status], said, retry_after=retry_after)

    def no_schema(self) -> RejectedError:
        """See ErrorFormat."""
        return refused("output_config: Extra inputs are not permitted")

    def event(self) -> bytes:
        """See ErrorFormat."""
        # Anthropic's guide "Streaming messages": an event of its own name.
        return named_event("error", error={"type": "api_error", "message": "Simulated fault."})


def refused(message: str) -> RejectedError:
    """Makes the error of a wrong request."""
    return RejectedError(400, "invalid_request_error", message)
