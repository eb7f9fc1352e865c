"""OpenAI's ``POST /v1/chat/completions``: what it accepts, what it refuses and what it writes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from service.simulator import checks, schema, tokens
from service.simulator.contracts import Allowance, Ask, Picture, RejectedError, Reply
from service.simulator.image_tokens import ImageRule, openai_image_tokens

_ROLES = ("developer", "system", "user", "assistant", "tool", "function")
_SPEAKS_NOT = ("tools", "functions", "audio", "prediction", "logprobs", "top_logprobs", "stop")
_REFUSAL = "I'm sorry, but I can't help with that."
_FAULTS = {
    "400": (400, "invalid_request_error", None),
    "401": (401, "invalid_request_error", "invalid_api_key"),
    "413": (413, "invalid_request_error", "request_too_large"),
    "429": (429, "requests", "rate_limit_exceeded"),
    "500": (500, "server_error", None),
    "504": (504, "server_error", None),
    "529": (503, "server_overloaded", None),  # 529 is Anthropic's number
}
_REASONING = ("o1", "o3", "o4", "gpt-5", "gpt-6")  # these refuse `max_tokens`


class OpenAIWire:
    """Reads and writes chat completions.

    Args:
        image_rule: bills pictures of models whose family is not known.
    """

    name = "openai"
    path = "/v1/chat/completions"

    def __init__(self, image_rule: ImageRule) -> None:
        self._image_rule = image_rule

    def read(self, headers: Mapping[str, str], body: bytes | bytearray) -> Ask:
        """See Wire."""
        self.check_headers(headers)
        asked = checks.json_object(body)
        if asked is None:
            raise _refusal(
                "We could not parse the JSON body of your request. (The body must be a JSON object.)"
            )
        return self.understand(asked)

    def check_headers(self, headers: Mapping[str, str]) -> None:
        """See Wire."""
        if not headers.get("authorization", "").removeprefix("Bearer ").strip():
            raise RejectedError(
                401,
                "invalid_request_error",
                "You didn't provide an API key. You need to provide your API key in an Authorization header "
                "using Bearer auth (i.e. Authorization: Bearer YOUR_KEY).",
            )

    def understand(self, asked: dict[str, Any]) -> Ask:
        """See Wire."""
        model = asked.get("model")
        if not isinstance(model, str) or not model:
            raise _refusal("you must provide a model parameter")
        _check_parameters(asked, model)
        instructions, texts, pictures, text_tokens = self._read_messages(asked, model)
        metadata = asked.get("metadata") or {}
        return Ask(
            model=model,
            instructions="\n".join(instructions),
            texts=tuple(texts),
            pictures=tuple(pictures),
            text_tokens=text_tokens,
            schema=_answer_schema(asked, [*instructions, *texts]),
            max_tokens=_max_tokens(asked, model),
            stream=bool(asked.get("stream")),
            include_usage=bool((asked.get("stream_options") or {}).get("include_usage")),
            strategy=metadata.get("strategy"),
        )

    def headers(self, request_id: str, seconds: float, allowance: Allowance) -> dict[str, str]:
        """See Wire."""
        reset = f"{max(0.0, allowance.resets_at - allowance.now):.3f}s"
        return {
            "x-request-id": request_id,
            "openai-version": "2020-10-01",
            "openai-processing-ms": str(round(seconds * 1000)),
            "x-ratelimit-limit-requests": str(allowance.request_limit),
            "x-ratelimit-remaining-requests": str(allowance.requests_left),
            "x-ratelimit-reset-requests": reset,
            "x-ratelimit-limit-tokens": str(allowance.token_limit),
            "x-ratelimit-remaining-tokens": str(allowance.tokens_left),
            "x-ratelimit-reset-tokens": reset,
        }

    def rejection(self, error: RejectedError, request_id: str) -> dict[str, Any]:
        """See Wire."""
        detail = {"message": error.message, "type": error.kind, "param": error.param, "code": error.code}
        return {"error": detail}

    def fault(self, status: str, retry_after: float | None) -> RejectedError:
        """See Wire."""
        number, kind, code = _FAULTS[status]
        said = f"Simulated fault {status}."
        return RejectedError(number, kind, said, code=code, retry_after=retry_after)

    def no_schema(self) -> RejectedError:
        """See Wire."""
        said = "Unsupported parameter: 'response_format' is not supported with this model."
        return _refusal(said, "response_format", "unsupported_parameter")

    def error_event(self, reply: Reply) -> bytes:
        """See Wire."""
        error = {"message": "Simulated fault.", "type": "server_error", "param": None, "code": None}
        return _event({"error": error})

    def message(self, reply: Reply) -> dict[str, Any]:
        """See Wire."""
        message: dict[str, Any] = {
            "role": "assistant",
            "content": None if reply.refused else reply.text,
            "refusal": _REFUSAL if reply.refused else None,
            "annotations": [],
        }
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _finish_reason(reply)}
        return {**_envelope(reply, "chat.completion"), "choices": [choice], "usage": _usage(reply)}

    def opening(self, reply: Reply) -> bytes:
        """See Wire."""
        return _chunk(reply, {"role": "assistant", "content": "", "refusal": None})

    def piece(self, reply: Reply, token: str) -> bytes:
        """See Wire."""
        return _chunk(reply, {"content": token})

    def closing(self, reply: Reply) -> bytes:
        """See Wire."""
        events = _chunk(reply, {"refusal": _REFUSAL}) if reply.refused else b""
        events += _chunk(reply, {}, _finish_reason(reply))
        if reply.ask.include_usage:
            totals = {**_envelope(reply, "chat.completion.chunk"), "choices": [], "usage": _usage(reply)}
            events += _event(totals)
        return events + b"data: [DONE]\n\n"

    def _read_messages(
        self, asked: dict[str, Any], model: str
    ) -> tuple[list[str], list[str], list[Picture], int]:
        messages = asked.get("messages")
        if messages is None:
            raise _refusal(
                "Missing required parameter: 'messages'.", "messages", "missing_required_parameter"
            )
        if not isinstance(messages, list):
            raise _wrong_type("messages", "an array of objects", messages)
        if not messages:
            raise _refusal(
                "Invalid 'messages': empty array. Expected an array with minimum length 1, but got an empty "
                "array instead.",
                "messages",
                "empty_array",
            )
        instructions: list[str] = []
        texts: list[str] = []
        pictures: list[Picture] = []
        text_tokens = 0
        for position, message in enumerate(messages):
            said, seen = self._read_message(message, f"messages[{position}]", model)
            text_tokens += tokens.MESSAGE_OVERHEAD + sum(tokens.count(text) for text in said)
            pictures += seen
            texts += said if message["role"] == "user" else []
            instructions += said if message["role"] in ("system", "developer") else []
        return instructions, texts, pictures, text_tokens

    def _read_message(self, message: Any, where: str, model: str) -> tuple[list[str], list[Picture]]:
        if not isinstance(message, dict):
            raise _wrong_type(where, "an object", message)
        if message.get("role") not in _ROLES:
            expected = ", ".join(f"'{role}'" for role in _ROLES)
            raise _refusal(
                f"Invalid value: '{message.get('role')}'. Supported values are: {expected}.",
                f"{where}.role",
                "invalid_value",
            )
        content = message.get("content")
        if isinstance(content, str):
            return [content], []
        if not isinstance(content, list):
            raise _wrong_type(f"{where}.content", "one of a string or array of objects", content)
        said: list[str] = []
        seen: list[Picture] = []
        for index, part in enumerate(content):
            at = f"{where}.content[{index}]"
            match part:
                case {"type": "text", "text": str(text)}:
                    said.append(text)
                case {"type": "image_url", "image_url": {"url": str(url), **rest}} if (
                    message["role"] == "user"
                ):
                    seen.append(
                        self._read_picture(url, str(rest.get("detail") or "auto"), f"{at}.image_url", model)
                    )
                case _:
                    raise _refusal(
                        f"Invalid content part at {at}: expected 'text' or, in user messages, 'image_url'.",
                        at,
                        "invalid_value",
                    )
        return said, seen

    def _read_picture(self, url: str, detail: str, where: str, model: str) -> Picture:
        if detail not in ("low", "high", "auto", "original"):
            raise _refusal(f"Invalid value: '{detail}'.", f"{where}.detail", "invalid_value")
        prefix, comma, encoded = url.partition(",")
        if not (comma and prefix.startswith("data:image/") and prefix.endswith(";base64")):
            raise _refusal(
                "Failed to download image: the simulator reads data URLs only (data:image/jpeg;base64,…).",
                f"{where}.url",
                "invalid_image_url",
            )
        try:
            data = checks.picture_bytes(encoded)
            media_type, width, height = checks.inspect_picture(data)
        except ValueError as error:
            raise _refusal(
                f"You uploaded an unsupported image ({error}). Please make sure your image is valid and has "
                "one of the following formats: ['png', 'jpeg', 'gif', 'webp'].",
                f"{where}.url",
                "invalid_image_format",
            ) from error
        billed = openai_image_tokens(model, width, height, detail, self._image_rule)
        return Picture(data, media_type, width, height, billed)


def _check_parameters(asked: dict[str, Any], model: str) -> None:
    for name in _SPEAKS_NOT:
        if asked.get(name):
            raise _refusal(
                f"Unsupported parameter: '{name}' is not supported by the simulator.",
                name,
                "unsupported_parameter",
            )
    if asked.get("n") not in (None, 1):
        raise _refusal("Unsupported value: the simulator gives one choice.", "n", "unsupported_value")
    if asked.get("max_tokens") is not None and asked.get("max_completion_tokens") is not None:
        raise _refusal(
            "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.",
            "max_tokens",
            "invalid_parameter_combination",
        )
    if not isinstance(asked.get("stream") or False, bool):
        raise _wrong_type("stream", "a boolean", asked["stream"])
    options = asked.get("stream_options")
    if options is not None and not asked.get("stream"):
        raise _refusal(
            "The 'stream_options' parameter is only allowed when 'stream' is enabled.", "stream_options"
        )
    if not isinstance(options or {}, dict):
        raise _wrong_type("stream_options", "an object", options)
    metadata = asked.get("metadata") or {}
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise _wrong_type("metadata", "an object of strings", metadata)


def _max_tokens(asked: dict[str, Any], model: str) -> int | None:
    if asked.get("max_tokens") is not None and model.startswith(_REASONING):
        raise _refusal(
            "Unsupported parameter: 'max_tokens' is not supported with this model. "
            "Use 'max_completion_tokens' instead.",
            "max_tokens",
            "unsupported_parameter",
        )
    for name in ("max_completion_tokens", "max_tokens"):
        value = asked.get(name)
        if value is None:
            continue
        if not checks.is_integer(value):
            raise _wrong_type(name, "an integer", value)
        if value < 1:
            raise _refusal(
                f"Invalid '{name}': integer below minimum value. "
                f"Expected a value >= 1, but got {value} instead.",
                name,
                "integer_below_min_value",
            )
        return int(value)
    return None


def _answer_schema(asked: dict[str, Any], texts: list[str]) -> Mapping[str, Any] | None:
    match asked.get("response_format"):
        case None | {"type": "text"}:
            return None
        case {"type": "json_object"}:
            if not any("json" in text.lower() for text in texts):
                raise _refusal(
                    "'messages' must contain the word 'json' in some form, to use 'response_format' of type "
                    "'json_object'.",
                    "messages",
                )
            return None  # the answers to ranking prompts are JSON objects by themselves
        case {"type": "json_schema", "json_schema": {"name": str(name), "schema": dict(wanted), **rest}}:
            objection = (schema.openai_objection if rest.get("strict") else schema.objection)(wanted)
            if objection:
                raise _refusal(
                    f"Invalid schema for response_format '{name}': {objection}",
                    "response_format",
                    "invalid_json_schema",
                )
            return wanted
        case other:
            raise _refusal(
                f"Invalid value for 'response_format': expected type 'text', 'json_object' or 'json_schema' "
                f"with name and schema, got {json.dumps(other)[:200]}.",
                "response_format",
                "invalid_value",
            )


def _refusal(message: str, param: str | None = None, code: str | None = None) -> RejectedError:
    return RejectedError(400, "invalid_request_error", message, param=param, code=code)


def _wrong_type(param: str, expected: str, value: object) -> RejectedError:
    got = "null" if value is None else type(value).__name__
    return _refusal(
        f"Invalid type for '{param}': expected {expected}, but got {got} instead.", param, "invalid_type"
    )


def _finish_reason(reply: Reply) -> str:
    return "length" if reply.cut else "stop"


def _usage(reply: Reply) -> dict[str, Any]:
    ask = reply.ask
    return {
        "prompt_tokens": ask.input_tokens,
        "completion_tokens": len(reply.tokens),
        "total_tokens": ask.input_tokens + len(reply.tokens),
        "prompt_tokens_details": {
            "cached_tokens": reply.cached_tokens,
            "audio_tokens": 0,
            "image_tokens": ask.image_tokens,
            "text_tokens": ask.text_tokens,
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
    if reply.ask.include_usage:
        chunk["usage"] = None
    return _event(chunk)


def _event(data: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(data, separators=(",", ":")).encode() + b"\n\n"
