"""Reads requests of Anthropic's ``POST /v1/messages``, and refuses those that Anthropic refuses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from service.simulator.accounting import text_tokens
from service.simulator.accounting.image_tokens import anthropic_image_tokens
from service.simulator.answers import structured_output
from service.simulator.contracts import ChatRequest, Picture, RejectedError
from service.simulator.wire import request_checks
from service.simulator.wire.anthropic.errors import refused
from service.simulator.wire.conversation import Conversation

# Parameters that change the answer in ways that the simulator does not know.
_UNSUPPORTED = ("tools", "stop_sequences", "container", "mcp_servers")
_REMOVED = ("temperature", "top_p", "top_k")  # current models refuse them
_STRATEGY_PREFIX = "strategy="  # of `metadata.user_id`, the one field of the metadata that Anthropic takes


class AnthropicRequests:
    """Reads requests for messages."""

    def read(self, headers: Mapping[str, str], body: bytes | bytearray) -> ChatRequest:
        """See RequestReader."""
        self.check_headers(headers)
        fields = request_checks.json_object(body)
        if fields is None:
            raise refused("The request body is not valid JSON: expected an object")
        return self.parse(fields)

    def check_headers(self, headers: Mapping[str, str]) -> None:
        """See RequestReader."""
        # The SDK sends the key as a bearer token since its second version; other clients use x-api-key.
        bearer = headers.get("authorization", "").removeprefix("Bearer ").strip()
        if not (headers.get("x-api-key") or bearer):
            raise RejectedError(401, "authentication_error", "x-api-key header is required")
        if not headers.get("anthropic-version"):
            raise refused("anthropic-version: header is required")

    def parse(self, fields: dict[str, Any]) -> ChatRequest:
        """See RequestReader."""
        _check_parameters(fields)
        instructions = _system(fields.get("system"))
        said = _read_messages(fields)
        return ChatRequest(
            model=fields["model"],
            instructions=instructions,
            texts=tuple(said.texts),
            pictures=tuple(said.pictures),
            text_tokens=said.text_tokens + text_tokens.count(instructions),
            schema=_answer_schema(fields),
            max_tokens=fields["max_tokens"],
            stream=bool(fields.get("stream")),
            # Anthropic's streams always end with the usage.
            include_usage=True,
            strategy=_strategy(fields.get("metadata")),
        )


def _check_parameters(fields: dict[str, Any]) -> None:
    for name in ("model", "max_tokens", "messages"):
        if name not in fields:
            raise refused(f"{name}: Field required")
    if not isinstance(fields["model"], str) or not fields["model"]:
        raise refused("model: Input should be a valid string of at least 1 character")
    if not request_checks.is_integer(fields["max_tokens"]):
        raise refused("max_tokens: Input should be a valid integer")
    if fields["max_tokens"] < 1:
        raise refused("max_tokens: Input should be greater than or equal to 1")
    if not isinstance(fields.get("stream") or False, bool):
        raise refused("stream: Input should be a valid boolean")
    for name in _REMOVED:
        if fields.get(name) is not None:
            raise refused(f"{name}: `{name}` is deprecated for this model.")
    for name in _UNSUPPORTED:
        if fields.get(name):
            raise refused(f"{name}: not supported by the simulator")


def _read_messages(fields: dict[str, Any]) -> Conversation:
    messages = fields["messages"]
    if not isinstance(messages, list):
        raise refused("messages: Input should be a valid list")
    if not messages:
        raise refused("messages: at least one message is required")
    conversation = Conversation()
    for position, message in enumerate(messages):
        texts, pictures = _read_message(message, f"messages.{position}", fields["model"])
        conversation.add(message["role"], texts, pictures)
    # Current models refuse the beginning of an answer as last message.
    if messages[-1]["role"] != "user":
        raise refused(
            "This model does not support assistant message prefill. "
            "The conversation must end with a user message."
        )
    return conversation


def _read_message(message: Any, where: str, model: str) -> tuple[list[str], list[Picture]]:
    if not isinstance(message, dict):
        raise refused(f"{where}: Input should be an object")
    if message.get("role") not in ("user", "assistant"):
        raise refused(f"{where}.role: Input should be 'user' or 'assistant'")
    content = message.get("content")
    if isinstance(content, str):
        content = [{"type": "text", "text": content}]
    if not isinstance(content, list) or not content:
        raise refused(f"{where}.content: Input should be a valid string or a non-empty list")
    texts: list[str] = []
    pictures: list[Picture] = []
    for index, block in enumerate(content):
        at = f"{where}.content.{index}"
        match block:
            case {"type": "text", "text": str(text)} if text.strip():
                texts.append(text)
            case {"type": "text"}:
                raise refused(f"{at}.text: text content blocks must be non-empty strings")
            case {"type": "image", "source": dict(source)}:
                pictures.append(_read_picture(source, f"{at}.image.source", model))
            case _:
                raise refused(f"{at}: expected a block of type 'text' or 'image'")
    return texts, pictures


def _read_picture(source: dict[str, Any], where: str, model: str) -> Picture:
    encoded = source.get("data")
    if source.get("type") != "base64" or not isinstance(encoded, str):
        raise refused(f"{where}: the simulator reads base64 sources only, with media_type and data")
    where = f"{where}.base64"
    declared = source.get("media_type")
    if declared not in request_checks.MEDIA_TYPES.values():
        raise refused(
            f"{where}.media_type: Input should be one of {', '.join(request_checks.MEDIA_TYPES.values())}"
        )
    try:
        data = request_checks.picture_bytes(encoded)
        media_type, width, height = request_checks.inspect_picture(data)
    except ValueError as error:
        raise refused(f"{where}.data: Could not process image: {error}") from error
    # The declared type must be that of the bytes; the OpenAI wire ignores it.
    if media_type != declared:
        raise refused(f"{where}.data: Image does not match the provided media type {declared}")
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
            raise refused("system: Input should be a valid string or a list of text blocks")


def _answer_schema(fields: dict[str, Any]) -> Mapping[str, Any] | None:
    config = fields.get("output_config") or {}
    match config.get("format") if isinstance(config, dict) else config:
        case None:
            return None
        case {"type": "json_schema", "schema": dict(wanted)}:
            objection = structured_output.anthropic_objection(wanted)
            if objection:
                raise refused(f"output_config.format.schema: {objection}")
            return wanted
        case _:
            raise refused("output_config.format: Input should have type 'json_schema' and a schema")


def _strategy(metadata: Any) -> str | None:
    if metadata is None:
        return None
    user_id = metadata.get("user_id") if isinstance(metadata, dict) else metadata
    if not isinstance(user_id, str | None):
        raise refused("metadata.user_id: Input should be a valid string")
    if user_id and user_id.startswith(_STRATEGY_PREFIX):
        return user_id.removeprefix(_STRATEGY_PREFIX)
    return None
