"""Speaks Anthropic's messages, as the simulator and some gateways do too.

Format: https://docs.anthropic.com/en/api/messages. This is the only module that imports ``anthropic``, which
takes a second: it is loaded by the first provider that is opened. Batches are in ``batches``. No temperature
is sent: the SDK no longer has one.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

from service.lvlm.providers.base import (
    Alive,
    Call,
    Event,
    FailureKind,
    Finish,
    FinishReason,
    Image,
    ProviderError,
    Text,
    TextDelta,
    Usage,
    finish_reason,
)
from service.lvlm.providers.wire.base_urls import ANTHROPIC_URL
from service.lvlm.providers.wire.dialect import Dialect
from service.lvlm.providers.wire.failures import failure
from service.lvlm.providers.wire.response_body import END_WAIT
from service.lvlm.providers.wire.sdk_provider import SdkProvider, client_options, is_simulated
from service.lvlm.providers.wire.untrusted_json import count, record, text

_PATH = "/v1/messages"
# Type of a delta -> its member with text of the answer: a tool's input counts, thoughts do not.
_DELTAS = {"text_delta": "text", "input_json_delta": "partial_json"}


class AnthropicMessages(SdkProvider):
    """One server with ``/v1/messages``.

    Args:
        name: configured name of the provider.
        api_key: API key.
        base_url: base URL, without ``/v1``.
        dialect: fields that the server accepts, as far as they are known; None for all of them.
        send_context: whether to send the call's strategy as metadata; for the simulator alone.
        account: whether to send headers that the SDK reads from an environment variable of its own. They are
            meant for Anthropic, and no other server must see them.
    """

    def __init__(
        self,
        name: str,
        *,
        api_key: str,
        base_url: str = ANTHROPIC_URL,
        dialect: Dialect | None = None,
        send_context: bool = False,
        account: bool = False,
    ) -> None:
        import anthropic  # takes a second, which only deployments that use it should pay

        dialect = dialect or Dialect()
        client = anthropic.AsyncAnthropic(
            api_key=api_key,
            base_url=base_url,
            **client_options(base_url, api_key, dialect),
        )
        if not account:
            client._custom_headers = dict(dialect.headers)
        super().__init__(name, anthropic, client, _PATH, dialect)
        self._send_context = send_context

    def request(self, call: Call, dialect: Dialect | None = None) -> dict[str, Any]:
        """See SdkProvider."""
        prompt, dialect = call.prompt, dialect or self.dialect(call.model)
        content: Any = [_part(part) for part in prompt.parts]
        if not dialect.system_role:
            content = [{"type": "text", "text": prompt.system}, *content]
        if not dialect.content_parts:
            content = "\n\n".join(part["text"] for part in content if "text" in part)
        request: dict[str, Any] = {
            "model": call.model,
            "messages": [{"role": "user", "content": content}],
            "max_tokens": call.max_output_tokens,
        }
        if dialect.system_role:
            request["system"] = prompt.system
        if dialect.structured_output and prompt.answer_schema is not None:
            request["output_config"] = {
                "format": {"type": "json_schema", "schema": dict(prompt.answer_schema)}
            }
        # The format's metadata has one field, user_id: the simulator reads the strategy from it.
        if self._send_context and "strategy" in call.context:
            request["metadata"] = {"user_id": f"strategy={call.context['strategy']}"}
        return request

    def reader(self, model: str) -> MessageReader:
        """See SdkProvider."""
        return MessageReader(model)

    def _stream_fields(self, dialect: Dialect) -> dict[str, Any]:
        return {"stream": True}


class MessageReader:
    """Reads one message, event by event or as a whole; see AnswerReader."""

    def __init__(self, model: str) -> None:
        self.model = model
        self.wait_for_rest: float | None = None
        self._reason: FinishReason | None = None
        self._usage = Usage()

    @property
    def simulated(self) -> bool:
        """See AnswerReader."""
        return is_simulated(self.model)

    def take(self, value: object, *, plain: bool) -> list[Event]:
        """See AnswerReader."""
        event = record(value)
        kind = event.get("type")
        if kind == "error" or event.get("error"):
            raise failure(200, event)
        if plain or kind == "message":  # some servers stream a whole message as one event
            return self._whole(event)
        match kind:
            case "message_start":
                message = record(event.get("message"))
                self.model = text(message.get("model")) or self.model
                return self._usage_event(message.get("usage"))
            case "content_block_start":
                return _text(_block(event.get("content_block")))
            case "content_block_delta":
                delta = record(event.get("delta"))
                written = _DELTAS.get(str(delta.get("type")), "")
                return _text(text(delta.get(written)))
            case "message_delta":
                reason = text(record(event.get("delta")).get("stop_reason"))
                self._reason = finish_reason(reason) or self._reason
                return self._usage_event(event.get("usage"))
            case "message_stop":
                self.wait_for_rest = END_WAIT
        return [Alive()]

    def finish(self) -> Finish | None:
        """See AnswerReader."""
        if self._reason is None:
            return None
        return Finish(self._reason, self.model, self.simulated)

    def _whole(self, message: Mapping[str, Any]) -> list[Event]:
        content = message.get("content")
        if not isinstance(content, list | str):
            raise ProviderError(FailureKind.SERVER, "the provider's answer is not a message")
        self.model = text(message.get("model")) or self.model
        self._reason = finish_reason(text(message.get("stop_reason")))
        written = text(content) if isinstance(content, str) else "".join(map(_block, content))
        billed = self._usage_event(message["usage"]) if record(message.get("usage")) else []
        return [*([TextDelta(written)] if written else []), *billed]

    def _usage_event(self, reported: object) -> list[Event]:
        self._usage = _usage(record(reported), self._usage)
        return [self._usage] if record(reported) else [Alive()]


def _text(written: str) -> list[Event]:
    return [TextDelta(written)] if written else [Alive(thinking=True)]


def _block(block: object) -> str:
    """The answer's text in a block of a message: its text or a tool's input; empty for thoughts."""
    fields = record(block)
    if fields.get("type") == "text":
        return text(fields.get("text"))
    arguments = record(fields.get("input")) if fields.get("type") == "tool_use" else {}
    return json.dumps(arguments) if arguments else ""


def _part(part: Text | Image) -> dict[str, Any]:
    if isinstance(part, Text):
        return {"type": "text", "text": part.text}
    data = base64.b64encode(part.data).decode()
    return {"type": "image", "source": {"type": "base64", "media_type": part.media_type, "data": data}}


def _usage(reported: Mapping[str, Any], before: Usage) -> Usage:
    """The usage after an event's report.

    Counts are cumulative, and an event may leave some out: those stay as before. ``input_tokens`` comes
    without the tokens read from and written to the cache, which are added here.
    """
    written = _count(reported, "cache_creation_input_tokens", before.cache_write_tokens)
    cached = _count(reported, "cache_read_input_tokens", before.cached_input_tokens)
    plain = before.input_tokens - before.cache_write_tokens - before.cached_input_tokens
    return Usage(
        input_tokens=_count(reported, "input_tokens", plain) + written + cached,
        output_tokens=_count(reported, "output_tokens", before.output_tokens),
        cached_input_tokens=cached,
        cache_write_tokens=written,
    )


def _count(reported: Mapping[str, Any], name: str, otherwise: int) -> int:
    value = count(reported.get(name))
    return otherwise if value is None else value
