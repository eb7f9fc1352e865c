"""Reads requests of OpenAI's ``POST /v1/chat/completions``, and refuses those that OpenAI refuses."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from service.simulator.accounting.image_tokens import ImageRule, openai_image_tokens
from service.simulator.answers import structured_output
from service.simulator.contracts import ChatRequest, Picture, RejectedError
from service.simulator.wire import request_checks
from service.simulator.wire.conversation import Conversation
from service.simulator.wire.openai.errors import refused, wrong_type

_ROLES = ("developer", "system", "user", "assistant", "tool", "function")
# Parameters that change the answer in ways that the simulator does not know.
_UNSUPPORTED = ("tools", "functions", "audio", "prediction", "logprobs", "top_logprobs", "stop")
_REASONING = ("o1", "o3", "o4", "gpt-5", "gpt-6")  # prefixes of reasoning models, which refuse `max_tokens`


class OpenAIRequests:
    """Reads requests for chat completions.

    Args:
        image_rule: rule that bills pictures of models of no known family.
    """

    def __init__(self, image_rule: ImageRule) -> None:
        self._image_rule = image_rule

    def read(self, headers: Mapping[str, str], body: bytes | bytearray) -> ChatRequest:
        """See RequestReader."""
        self.check_headers(headers)
        fields = request_checks.json_object(body)
        if fields is None:
            raise refused(
                "We could not parse the JSON body of your request. (The body must be a JSON object.)"
            )
        return self.parse(fields)

    def check_headers(self, headers: Mapping[str, str]) -> None:
        """See RequestReader."""
        if not headers.get("authorization", "").removeprefix("Bearer ").strip():
            raise RejectedError(
                401,
                "invalid_request_error",
                "You didn't provide an API key. You need to provide your API key in an Authorization header "
                "using Bearer auth (i.e. Authorization: Bearer YOUR_KEY).",
            )

    def parse(self, fields: dict[str, Any]) -> ChatRequest:
        """See RequestReader."""
        model = fields.get("model")
        if not isinstance(model, str) or not model:
            raise refused("you must provide a model parameter")
        _check_parameters(fields)
        said = self._read_messages(fields, model)
        metadata = fields.get("metadata") or {}
        return ChatRequest(
            model=model,
            instructions="\n".join(said.instructions),
            texts=tuple(said.texts),
            pictures=tuple(said.pictures),
            text_tokens=said.text_tokens,
            schema=_answer_schema(fields, [*said.instructions, *said.texts]),
            max_tokens=_max_tokens(fields, model),
            stream=bool(fields.get("stream")),
            include_usage=bool((fields.get("stream_options") or {}).get("include_usage")),
            strategy=metadata.get("strategy"),
        )

    def _read_messages(self, fields: dict[str, Any], model: str) -> Conversation:
        messages = fields.get("messages")
        if messages is None:
            raise refused("Missing required parameter: 'messages'.", "messages", "missing_required_parameter")
        if not isinstance(messages, list):
            raise wrong_type("messages", "an array of objects", messages)
        if not messages:
            raise refused(
                "Invalid 'messages': empty array. Expected an array with minimum length 1, but got an empty "
                "array instead.",
                "messages",
                "empty_array",
            )
        conversation = Conversation()
        for position, message in enumerate(messages):
            texts, pictures = self._read_message(message, f"messages[{position}]", model)
            conversation.add(message["role"], texts, pictures)
        return conversation

    def _read_message(self, message: Any, where: str, model: str) -> tuple[list[str], list[Picture]]:
        if not isinstance(message, dict):
            raise wrong_type(where, "an object", message)
        if message.get("role") not in _ROLES:
            expected = ", ".join(f"'{role}'" for role in _ROLES)
            raise refused(
                f"Invalid value: '{message.get('role')}'. Supported values are: {expected}.",
                f"{where}.role",
                "invalid_value",
            )
        content = message.get("content")
        if isinstance(content, str):
            return [content], []
        if not isinstance(content, list):
            raise wrong_type(f"{where}.content", "one of a string or array of objects", content)
        texts: list[str] = []
        pictures: list[Picture] = []
        for index, part in enumerate(content):
            at = f"{where}.content[{index}]"
            match part:
                case {"type": "text", "text": str(text)}:
                    texts.append(text)
                case {"type": "image_url", "image_url": {"url": str(url), **rest}} if (
                    message["role"] == "user"
                ):
                    pictures.append(
                        self._read_picture(url, str(rest.get("detail") or "auto"), f"{at}.image_url", model)
                    )
                case _:
                    raise refused(
                        f"Invalid content part at {at}: expected 'text' or, in user messages, 'image_url'.",
                        at,
                        "invalid_value",
                    )
        return texts, pictures

    def _read_picture(self, url: str, detail: str, where: str, model: str) -> Picture:
        if detail not in ("low", "high", "auto", "original"):
            raise refused(f"Invalid value: '{detail}'.", f"{where}.detail", "invalid_value")
        # RFC 2397: "data:image/jpeg;base64,…".
        prefix, comma, encoded = url.partition(",")
        if not (comma and prefix.startswith("data:image/") and prefix.endswith(";base64")):
            raise refused(
                "Failed to download image: the simulator reads data URLs only (data:image/jpeg;base64,…).",
                f"{where}.url",
                "invalid_image_url",
            )
        try:
            data = request_checks.picture_bytes(encoded)
            media_type, width, height = request_checks.inspect_picture(data)
        except ValueError as error:
            raise refused(
                f"You uploaded an unsupported image ({error}). Please make sure your image is valid and has "
                "one of the following formats: ['png', 'jpeg', 'gif', 'webp'].",
                f"{where}.url",
                "invalid_image_format",
            ) from error
        billed = openai_image_tokens(model, width, height, detail, self._image_rule)
        return Picture(data, media_type, width, height, billed)


def _check_parameters(fields: dict[str, Any]) -> None:
    for name in _UNSUPPORTED:
        if fields.get(name):
            raise refused(
                f"Unsupported parameter: '{name}' is not supported by the simulator.",
                name,
                "unsupported_parameter",
            )
    # More than one choice would need more than one answer.
    if fields.get("n") not in (None, 1):
        raise refused("Unsupported value: the simulator gives one choice.", "n", "unsupported_value")
    if fields.get("max_tokens") is not None and fields.get("max_completion_tokens") is not None:
        raise refused(
            "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.",
            "max_tokens",
            "invalid_parameter_combination",
        )
    if not isinstance(fields.get("stream") or False, bool):
        raise wrong_type("stream", "a boolean", fields["stream"])
    options = fields.get("stream_options")
    if options is not None and not fields.get("stream"):
        raise refused(
            "The 'stream_options' parameter is only allowed when 'stream' is enabled.", "stream_options"
        )
    if not isinstance(options or {}, dict):
        raise wrong_type("stream_options", "an object", options)
    metadata = fields.get("metadata") or {}
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise wrong_type("metadata", "an object of strings", metadata)


def _max_tokens(fields: dict[str, Any], model: str) -> int | None:
    if fields.get("max_tokens") is not None and model.startswith(_REASONING):
        raise refused(
            "Unsupported parameter: 'max_tokens' is not supported with this model. "
            "Use 'max_completion_tokens' instead.",
            "max_tokens",
            "unsupported_parameter",
        )
    # The newer parameter first; "max_tokens" is deprecated.
    for name in ("max_completion_tokens", "max_tokens"):
        value = fields.get(name)
        if value is None:
            continue
        if not request_checks.is_integer(value):
            raise wrong_type(name, "an integer", value)
        if value < 1:
            raise refused(
                f"Invalid '{name}': integer below minimum value. "
                f"Expected a value >= 1, but got {value} instead.",
                name,
                "integer_below_min_value",
            )
        return int(value)
    return None


def _answer_schema(fields: dict[str, Any], texts: list[str]) -> Mapping[str, Any] | None:
    match fields.get("response_format"):
        case None | {"type": "text"}:
            return None
        case {"type": "json_object"}:
            # OpenAI refuses the JSON mode where no message says "json", since models then write white space.
            if not any("json" in text.lower() for text in texts):
                raise refused(
                    "'messages' must contain the word 'json' in some form, to use 'response_format' of type "
                    "'json_object'.",
                    "messages",
                )
            return None  # answers to ranking prompts are JSON objects anyway
        case {"type": "json_schema", "json_schema": {"name": str(name), "schema": dict(wanted), **rest}}:
            objection = (
                structured_output.openai_objection if rest.get("strict") else structured_output.objection
            )(wanted)
            if objection:
                raise refused(
                    f"Invalid schema for response_format '{name}': {objection}",
                    "response_format",
                    "invalid_json_schema",
                )
            return wanted
        case other:
            raise refused(
                f"Invalid value for 'response_format': expected type 'text', 'json_object' or 'json_schema' "
                f"with name and schema, got {json.dumps(other)[:200]}.",
                "response_format",
                "invalid_value",
            )
