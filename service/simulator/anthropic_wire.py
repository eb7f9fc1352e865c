"""Anthropic's ``POST /v1/messages``: what it accepts, what it refuses and what it writes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from service.simulator import checks, schema, tokens
from service.simulator.contracts import Allowance, Ask, Picture, RejectedError, Reply
from service.simulator.image_tokens import anthropic_image_tokens

_SPEAKS_NOT = ("tools", "stop_sequences", "container", "mcp_servers")
_REMOVED = ("temperature", "top_p", "top_k")  # current models refuse them
_STRATEGY = "strategy="
_FAULTS = {
    "400": "invalid_request_error",
    "401": "authentication_error",
    "413": "request_too_large",
    "429": "rate_limit_error",
    "500": "api_error",
    "504": "timeout_error",
    "529": "overloaded_error",
}


class AnthropicWire:
    """Reads and writes messages."""

    name = "anthropic"
    path = "/v1/messages"

    def read(self, headers: Mapping[str, str], body: bytes | bytearray) -> Ask:
        """See Wire."""
        self.check_headers(headers)
        asked = checks.json_object(body)
        if asked is None:
            raise _refusal("The request body is not valid JSON: expected an object")
        return self.understand(asked)

    def check_headers(self, headers: Mapping[str, str]) -> None:
        """See Wire."""
        # The SDK sends the key as a bearer token since its second version; other clients use x-api-key.
        bearer = headers.get("authorization", "").removeprefix("Bearer ").strip()
        if not (headers.get("x-api-key") or bearer):
            raise RejectedError(401, "authentication_error", "x-api-key header is required")
        if not headers.get("anthropic-version"):
            raise _refusal("anthropic-version: header is required")

    def understand(self, asked: dict[str, Any]) -> Ask:
        """See Wire."""
        _check_parameters(asked)
        instructions = _system(asked.get("system"))
        texts, pictures, text_tokens = _read_messages(asked)
        return Ask(
            model=asked["model"],
            instructions=instructions,
            texts=tuple(texts),
            pictures=tuple(pictures),
            text_tokens=text_tokens + tokens.count(instructions),
            schema=_answer_schema(asked),
            max_tokens=asked["max_tokens"],
            stream=bool(asked.get("stream")),
            include_usage=True,
            strategy=_strategy(asked.get("metadata")),
        )

    def headers(self, request_id: str, seconds: float, allowance: Allowance) -> dict[str, str]:
        """See Wire."""
        resets = datetime.fromtimestamp(allowance.resets_at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        headers = {"request-id": request_id, "anthropic-organization-id": "simulator"}
        limits = {
            "requests": (allowance.request_limit, allowance.requests_left),
            "tokens": (allowance.token_limit, allowance.tokens_left),
            "input-tokens": (allowance.token_limit, allowance.tokens_left),
            "output-tokens": (allowance.token_limit, allowance.tokens_left),
        }
        for name, (limit, left) in limits.items():
            headers[f"anthropic-ratelimit-{name}-limit"] = str(limit)
            headers[f"anthropic-ratelimit-{name}-remaining"] = str(left)
            headers[f"anthropic-ratelimit-{name}-reset"] = resets
        return headers

    def rejection(self, error: RejectedError, request_id: str) -> dict[str, Any]:
        """See Wire."""
        detail = {"type": error.kind, "message": error.message}
        return {"type": "error", "error": detail, "request_id": request_id}

    def fault(self, status: str, retry_after: float | None) -> RejectedError:
        """See Wire."""
        said = f"Simulated fault {status}."
        return RejectedError(int(status), _FAULTS[status], said, retry_after=retry_after)

    def no_schema(self) -> RejectedError:
        """See Wire."""
        return _refusal("output_config: Extra inputs are not permitted")

    def error_event(self, reply: Reply) -> bytes:
        """See Wire."""
        return _event("error", error={"type": "api_error", "message": "Simulated fault."})

    def message(self, reply: Reply) -> dict[str, Any]:
        """See Wire."""
        message = _message(reply, output_tokens=len(reply.tokens))
        message["content"] = [{"type": "text", "text": reply.text, "citations": None}]
        message["stop_reason"] = _stop_reason(reply)
        return message

    def opening(self, reply: Reply) -> bytes:
        """See Wire."""
        block = {"type": "text", "text": ""}
        return (
            _event("message_start", message=_message(reply, output_tokens=1))
            + _event("content_block_start", index=0, content_block=block)
            + _event("ping")
        )

    def piece(self, reply: Reply, token: str) -> bytes:
        """See Wire."""
        return _event("content_block_delta", index=0, delta={"type": "text_delta", "text": token})

    def closing(self, reply: Reply) -> bytes:
        """See Wire."""
        usage = {
            "input_tokens": reply.ask.input_tokens,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": len(reply.tokens),
        }
        delta = {"stop_reason": _stop_reason(reply), "stop_sequence": None}
        return (
            _event("content_block_stop", index=0)
            + _event("message_delta", delta=delta, usage=usage)
            + _event("message_stop")
        )


def _check_parameters(asked: dict[str, Any]) -> None:
    for name in ("model", "max_tokens", "messages"):
        if name not in asked:
            raise _refusal(f"{name}: Field required")
    if not isinstance(asked["model"], str) or not asked["model"]:
        raise _refusal("model: Input should be a valid string of at least 1 character")
    if not checks.is_integer(asked["max_tokens"]):
        raise _refusal("max_tokens: Input should be a valid integer")
    if asked["max_tokens"] < 1:
        raise _refusal("max_tokens: Input should be greater than or equal to 1")
    if not isinstance(asked.get("stream") or False, bool):
        raise _refusal("stream: Input should be a valid boolean")
    for name in _REMOVED:
        if asked.get(name) is not None:
            raise _refusal(f"{name}: `{name}` is deprecated for this model.")
    for name in _SPEAKS_NOT:
        if asked.get(name):
            raise _refusal(f"{name}: not supported by the simulator")


def _read_messages(asked: dict[str, Any]) -> tuple[list[str], list[Picture], int]:
    messages = asked["messages"]
    if not isinstance(messages, list):
        raise _refusal("messages: Input should be a valid list")
    if not messages:
        raise _refusal("messages: at least one message is required")
    texts: list[str] = []
    pictures: list[Picture] = []
    text_tokens = 0
    for position, message in enumerate(messages):
        said, seen = _read_message(message, f"messages.{position}", asked["model"])
        text_tokens += tokens.MESSAGE_OVERHEAD + sum(tokens.count(text) for text in said)
        pictures += seen
        texts += said if message["role"] == "user" else []
    if messages[-1]["role"] != "user":
        raise _refusal(
            "This model does not support assistant message prefill. "
            "The conversation must end with a user message."
        )
    return texts, pictures, text_tokens


def _read_message(message: Any, where: str, model: str) -> tuple[list[str], list[Picture]]:
    if not isinstance(message, dict):
        raise _refusal(f"{where}: Input should be an object")
    if message.get("role") not in ("user", "assistant"):
        raise _refusal(f"{where}.role: Input should be 'user' or 'assistant'")
    content = message.get("content")
    if isinstance(content, str):
        content = [{"type": "text", "text": content}]
    if not isinstance(content, list) or not content:
        raise _refusal(f"{where}.content: Input should be a valid string or a non-empty list")
    said: list[str] = []
    seen: list[Picture] = []
    for index, block in enumerate(content):
        at = f"{where}.content.{index}"
        match block:
            case {"type": "text", "text": str(text)} if text.strip():
                said.append(text)
            case {"type": "text"}:
                raise _refusal(f"{at}.text: text content blocks must be non-empty strings")
            case {"type": "image", "source": dict(source)}:
                seen.append(_read_picture(source, f"{at}.image.source", model))
            case _:
                raise _refusal(f"{at}: expected a block of type 'text' or 'image'")
    return said, seen


def _read_picture(source: dict[str, Any], where: str, model: str) -> Picture:
    encoded = source.get("data")
    if source.get("type") != "base64" or not isinstance(encoded, str):
        raise _refusal(f"{where}: the simulator reads base64 sources only, with media_type and data")
    where = f"{where}.base64"
    declared = source.get("media_type")
    if declared not in checks.MEDIA_TYPES.values():
        raise _refusal(f"{where}.media_type: Input should be one of {', '.join(checks.MEDIA_TYPES.values())}")
    try:
        data = checks.picture_bytes(encoded)
        media_type, width, height = checks.inspect_picture(data)
    except ValueError as error:
        raise _refusal(f"{where}.data: Could not process image: {error}") from error
    if media_type != declared:
        raise _refusal(f"{where}.data: Image does not match the provided media type {declared}")
    return Picture(data, media_type, width, height, anthropic_image_tokens(model, width, height))


def _system(system: Any) -> str:
    match system:
        case None:
            return ""
        case str(text):
            return text
        case list(blocks) if all(isinstance(b, dict) and isinstance(b.get("text"), str) for b in blocks):
            return "\n".join(block["text"] for block in blocks)
        case _:
            raise _refusal("system: Input should be a valid string or a list of text blocks")


def _answer_schema(asked: dict[str, Any]) -> Mapping[str, Any] | None:
    config = asked.get("output_config") or {}
    match config.get("format") if isinstance(config, dict) else config:
        case None:
            return None
        case {"type": "json_schema", "schema": dict(wanted)}:
            objection = schema.anthropic_objection(wanted)
            if objection:
                raise _refusal(f"output_config.format.schema: {objection}")
            return wanted
        case _:
            raise _refusal("output_config.format: Input should have type 'json_schema' and a schema")


def _strategy(metadata: Any) -> str | None:
    if metadata is None:
        return None
    user_id = metadata.get("user_id") if isinstance(metadata, dict) else metadata
    if not isinstance(user_id, str | None):
        raise _refusal("metadata.user_id: Input should be a valid string")
    if user_id and user_id.startswith(_STRATEGY):
        return user_id.removeprefix(_STRATEGY)
    return None


def _refusal(message: str) -> RejectedError:
    return RejectedError(400, "invalid_request_error", message)


def _stop_reason(reply: Reply) -> str:
    if reply.refused:
        return "refusal"
    return "max_tokens" if reply.cut else "end_turn"


def _message(reply: Reply, output_tokens: int) -> dict[str, Any]:
    usage = {
        "input_tokens": reply.ask.input_tokens,
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


def _event(kind: str, **fields: Any) -> bytes:
    data = json.dumps({"type": kind, **fields}, separators=(",", ":"))
    return f"event: {kind}\ndata: {data}\n\n".encode()
