"""Writes replies of OpenAI's ``POST /v1/chat/completions``, plain and streamed."""

from __future__ import annotations

from typing import Any

from service.simulator.contracts import RateLimitStatus, Reply
from service.simulator.wire.server_sent_events import data_event

_REFUSAL = "I'm sorry, but I can't help with that."


class OpenAIReplies:
    """Shapes chat completions."""

    def headers(self, request_id: str, seconds: float, rate_limits: RateLimitStatus) -> dict[str, str]:
        """See ReplyFormat."""
        reset = f"{max(0.0, rate_limits.resets_at - rate_limits.now):.3f}s"
        return {
            "x-request-id": request_id,
            "openai-version": "2020-10-01",
            "openai-processing-ms": str(round(seconds * 1000)),
            "x-ratelimit-limit-requests": str(rate_limits.request_limit),
            "x-ratelimit-remaining-requests": str(rate_limits.requests_left),
            "x-ratelimit-reset-requests": reset,
            "x-ratelimit-limit-tokens": str(rate_limits.token_limit),
            "x-ratelimit-remaining-tokens": str(rate_limits.tokens_left),
            "x-ratelimit-reset-tokens": reset,
        }

    def message(self, reply: Reply) -> dict[str, Any]:
        """See ReplyFormat."""
        message: dict[str, Any] = {
            "role": "assistant",
            # A refusal stands in a field of its own, beside a content of null.
            "content": None if reply.refused else reply.text,
            "refusal": _REFUSAL if reply.refused else None,
            "annotations": [],
        }
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _finish_reason(reply)}
        return {**_envelope(reply, "chat.completion"), "choices": [choice], "usage": _usage(reply)}

    def opening(self, reply: Reply) -> bytes:
        """See ReplyFormat."""
        return _chunk(reply, {"role": "assistant", "content": "", "refusal": None})

    def piece(self, reply: Reply, token: str) -> bytes:
        """See ReplyFormat."""
        return _chunk(reply, {"content": token})

    def closing(self, reply: Reply) -> bytes:
        """See ReplyFormat."""
        events = _chunk(reply, {"refusal": _REFUSAL}) if reply.refused else b""
        events += _chunk(reply, {}, _finish_reason(reply))
        if reply.request.include_usage:
            # The last chunk has the usage and no choices.
            totals = {**_envelope(reply, "chat.completion.chunk"), "choices": [], "usage": _usage(reply)}
            events += data_event(totals)
        # The sentinel that ends OpenAI's streams; it is not JSON.
        return events + b"data: [DONE]\n\n"


def _finish_reason(reply: Reply) -> str:
    return "length" if reply.cut else "stop"


def _usage(reply: Reply) -> dict[str, Any]:
    request = reply.request
    return {
        "prompt_tokens": request.input_tokens,
        "completion_tokens": len(reply.tokens),
        "total_tokens": request.input_tokens + len(reply.tokens),
        "prompt_tokens_details": {
            "cached_tokens": reply.cached_tokens,
            "audio_tokens": 0,
            "image_tokens": request.image_tokens,
            "text_tokens": request.text_tokens,
        },
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def _envelope(reply: Reply, kind: str) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{reply.request_id}",
        "object": kind,
        "created": reply.created,
        "model": reply.model,
        "service_tier": "default",
        "system_fingerprint": "simulator",
    }


def _chunk(reply: Reply, delta: dict[str, Any], finish_reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
    chunk = {**_envelope(reply, "chat.completion.chunk"), "choices": [choice]}
    if reply.request.include_usage:  # then all chunks but the last have a usage of null
        chunk["usage"] = None
    return data_event(chunk)
