"""Anthropic's messages.

The one home of ``anthropic``, which is slow to import: it is loaded by the first provider made.
There is no temperature: the SDK no longer has one.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

import orjson

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
)
from service.lvlm.providers.failures import failure
from service.lvlm.providers.sdk import SdkProvider, is_simulated
from service.lvlm.providers.sse import read_events
from service.lvlm.providers.transport import http_client

ANTHROPIC_URL = "https://api.anthropic.com"
_PATH = "/v1/messages"

_FINISH = {
    "max_tokens": FinishReason.LENGTH,
    "model_context_window_exceeded": FinishReason.LENGTH,
    "refusal": FinishReason.REFUSAL,
}


class AnthropicMessages(SdkProvider):
    """One server with ``/v1/messages``.

    Args:
        name: the configured name.
        base_url: without ``/v1``.
        structured: whether to send the answer's JSON schema; off for servers that refuse it.
        tell_strategy: send the call's strategy as metadata. For the simulator alone.
    """

    def __init__(
        self,
        name: str,
        *,
        api_key: str,
        base_url: str = ANTHROPIC_URL,
        structured: bool = True,
        tell_strategy: bool = False,
    ) -> None:
        import anthropic  # slow: only who uses it pays

        client = anthropic.AsyncAnthropic(
            api_key=api_key,
            base_url=base_url,
            max_retries=0,
            timeout=None,
            http_client=http_client(base_url),
        )
        super().__init__(name, anthropic, client)
        self._message_type = anthropic.types.Message
        self._structured = structured
        self._tell_strategy = tell_strategy

    async def _streamed(self, call: Call) -> AsyncGenerator[Event]:
        usage, reason, model = Usage(), None, call.model
        async with (
            await self._stream(_PATH, call, {"stream": True}) as response,
            aclosing(read_events(response.response.aiter_bytes())) as events,  # type: ignore[type-var]
        ):
            async for data in events:
                event: dict[str, Any] = orjson.loads(data) if data else {"type": "ping"}
                match event["type"]:
                    case "error":
                        raise failure(200, event) from None
                    case "message_start":
                        model = event["message"].get("model") or model
                        usage = _usage(event["message"].get("usage"), usage)
                        yield usage
                    case "content_block_delta" if event["delta"]["type"] == "text_delta":
                        yield TextDelta(event["delta"]["text"])
                    case "message_delta":
                        reason = event["delta"].get("stop_reason") or reason
                        usage = _usage(event.get("usage"), usage)
                        yield usage
                    case _:
                        yield Alive()
        yield _finish(reason, model)

    async def _plain(self, call: Call) -> Any:
        return await self._send(_PATH, call, self._message_type)

    def events(self, answer: Any) -> list[Event]:
        """See SdkProvider."""
        if not isinstance(answer, self._message_type) or answer.content is None:
            raise ProviderError(FailureKind.SERVER, "the provider's answer is not a message")
        text = "".join(block.text for block in answer.content if block.type == "text")
        events: list[Event] = [TextDelta(text)] if text else []
        if answer.usage:
            events.append(_usage(answer.usage.model_dump(), Usage()))
        return [*events, _finish(answer.stop_reason, answer.model or "")]

    def request(self, call: Call) -> dict[str, Any]:
        """See SdkProvider."""
        prompt = call.prompt
        request: dict[str, Any] = {
            "model": call.model,
            "system": prompt.system,
            "messages": [{"role": "user", "content": [_part(part) for part in prompt.parts]}],
            "max_tokens": call.max_output_tokens,
        }
        if self._structured and prompt.answer_schema is not None:
            request["output_config"] = {
                "format": {"type": "json_schema", "schema": dict(prompt.answer_schema)}
            }
        if self._tell_strategy and "strategy" in call.context:
            request["metadata"] = {"user_id": f"strategy={call.context['strategy']}"}
        return request


def _part(part: Text | Image) -> dict[str, Any]:
    if isinstance(part, Text):
        return {"type": "text", "text": part.text}
    data = base64.b64encode(part.data).decode()
    return {"type": "image", "source": {"type": "base64", "media_type": part.media_type, "data": data}}


def _finish(reason: str | None, model: str) -> Finish:
    if reason is None:
        raise ProviderError(FailureKind.TRUNCATED, "the answer ended without a stop reason: it was cut off")
    return Finish(_FINISH.get(reason, FinishReason.STOP), model, is_simulated(model))


def _usage(reported: Mapping[str, Any] | None, before: Usage) -> Usage:
    """Usage so far: counts are cumulative, events leave some out, input comes without the cached part."""
    if reported is None:
        return before
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
    value = reported.get(name)
    return otherwise if value is None else int(value)
