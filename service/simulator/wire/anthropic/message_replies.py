"""Writes replies of Anthropic's ``POST /v1/messages``, plain and streamed."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from service.simulator.contracts import RateLimitStatus, Reply
from service.simulator.wire.server_sent_events import named_event


class AnthropicReplies:
    """Shapes messages."""

    def headers(self, request_id: str, seconds: float, rate_limits: RateLimitStatus) -> dict[str, str]:
        """See ReplyFormat."""
        # RFC 3339, where OpenAI has seconds from now.
        resets = datetime.fromtimestamp(rate_limits.resets_at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        headers = {"request-id": request_id, "anthropic-organization-id": "simulator"}
        limits = {
            "requests": (rate_limits.request_limit, rate_limits.requests_left),
            "tokens": (rate_limits.token_limit, rate_limits.tokens_left),
            "input-tokens": (rate_limits.token_limit, rate_limits.tokens_left),
            "output-tokens": (rate_limits.token_limit, rate_limits.tokens_left),
        }
        for name, (limit, left) in limits.items():
            headers[f"anthropic-ratelimit-{name}-limit"] = str(limit)
            headers[f"anthropic-ratelimit-{name}-remaining"] = str(left)
            headers[f"anthropic-ratelimit-{name}-reset"] = resets
        return headers

    def message(self, reply: Reply) -> dict[str, Any]:
        """See ReplyFormat."""
        message = _message(reply, output_tokens=len(reply.tokens))
        message["content"] = [{"type": "text", "text": reply.text, "citations": None}]
        message["stop_reason"] = _stop_reason(reply)
        return message

    def opening(self, reply: Reply) -> bytes:
        """See ReplyFormat."""
        # The stream opens a message, then its only block; a ping may come at any time.
        block = {"type": "text", "text": ""}
        return (
            named_event("message_start", message=_message(reply, output_tokens=1))
            + named_event("content_block_start", index=0, content_block=block)
            + named_event("ping")
        )

    def piece(self, reply: Reply, token: str) -> bytes:
        """See ReplyFormat."""
        return named_event("content_block_delta", index=0, delta={"type": "text_delta", "text": token})

    def closing(self, reply: Reply) -> bytes:
        """See ReplyFormat."""
        # The counts of message_delta are cumulative (Anthropic's guide "Streaming messages").
        usage = {
            "input_tokens": reply.request.input_tokens,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": len(reply.tokens),
        }
        delta = {"stop_reason": _stop_reason(reply), "stop_sequence": None}
        return (
            named_event("content_block_stop", index=0)
            + named_event("message_delta", delta=delta, usage=usage)
            + named_event("message_stop")
        )


def _stop_reason(reply: Reply) -> str:
    if reply.refused:
        return "refusal"
    return "max_tokens" if reply.cut else "end_turn"


def _message(reply: Reply, output_tokens: int) -> dict[str, Any]:
    usage = {
        "input_tokens": reply.request.input_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
        "output_tokens": output_tokens,
        "service_tier": "batch" if reply.batched else "standard",
    }
    return {
        "id": f"msg_{reply.request_id.removeprefix('req_')}",
        "type": "message",
        "role": "assistant",
        "model": reply.model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": usage,
    }
