"""OpenAI's chat completions, and all that speak them: vLLM, Ollama, llama.cpp, gateways, the simulator.

The one home of ``openai``, which takes a second to import: it is loaded by the first provider made.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, suppress
from typing import Any

import orjson

from service.lvlm.pricing import Prices
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
from service.lvlm.providers.sdk import SIMULATOR, SdkProvider, is_simulated
from service.lvlm.providers.sse import read_events
from service.lvlm.providers.transport import http_client

OPENAI_URL = "https://api.openai.com/v1"
_PATH = "/chat/completions"

_FINISH = {"length": FinishReason.LENGTH, "content_filter": FinishReason.REFUSAL}
_END = b"[DONE]"
_READ_OUT = 0.25  # seconds; the answer is complete, and nobody shall wait for a server that does not hang up


class OpenAIChat(SdkProvider):
    """One server with ``/chat/completions``.

    Args:
        name: the configured name.
        base_url: up to and including ``/v1``.
        prices: knows which image detail to ask for.
        compatible: another server than OpenAI's, which caps output by ``max_tokens``.
        structured: whether to send the answer's JSON schema; off for servers that refuse it.
        tell_strategy: send the call's context as metadata. For the simulator alone.
    """

    def __init__(
        self,
        name: str,
        *,
        api_key: str,
        prices: Prices,
        base_url: str = OPENAI_URL,
        compatible: bool = False,
        structured: bool = True,
        tell_strategy: bool = False,
    ) -> None:
        import openai  # slow: only who uses it pays

        client = openai.AsyncOpenAI(
            api_key=api_key or "none",  # servers without keys; the SDK insists on one
            base_url=base_url,
            max_retries=0,
            timeout=None,
            http_client=http_client(base_url),
        )
        super().__init__(name, openai, client)
        self._completion_type = openai.types.chat.ChatCompletion
        self._prices = prices
        self._cap = "max_tokens" if compatible else "max_completion_tokens"
        self._structured = structured
        self._tell_strategy = tell_strategy

    async def _streamed(self, call: Call) -> AsyncGenerator[Event]:
        reason, refused, simulated, model = None, False, False, call.model
        mode = {"stream": True, "stream_options": {"include_usage": True}}
        async with (
            await self._stream(_PATH, call, mode) as response,
            aclosing(read_events(response.response.aiter_bytes())) as events,  # type: ignore[type-var]
        ):
            async for data in events:
                if data == _END:
                    await _read_out(events)
                    break
                chunk = orjson.loads(data) if data else {}
                told = False
                if chunk.get("error"):
                    raise failure(200, chunk) from None
                model = chunk.get("model") or model
                simulated = simulated or _simulated(chunk)
                if chunk.get("usage"):
                    told = True
                    yield _usage(chunk["usage"])
                for choice in chunk.get("choices") or ():
                    delta = choice.get("delta") or {}
                    refused = refused or bool(delta.get("refusal"))
                    reason = choice.get("finish_reason") or reason
                    if delta.get("content"):
                        told = True
                        yield TextDelta(delta["content"])
                if not told:
                    yield Alive()
        yield _finish(reason, refused, model, simulated)

    async def _plain(self, call: Call) -> Any:
        return await self._send(_PATH, call, self._completion_type)

    def events(self, answer: Any) -> list[Event]:
        """See SdkProvider."""
        if not isinstance(answer, self._completion_type) or not answer.choices:
            raise ProviderError(FailureKind.SERVER, "the provider's answer is not a chat completion")
        choice = answer.choices[0]
        events: list[Event] = []
        if choice.message and choice.message.content:
            events.append(TextDelta(choice.message.content))
        if answer.usage:
            events.append(_usage(answer.usage.model_dump()))
        refused = bool(choice.message and choice.message.refusal)
        model = answer.model or ""
        simulated = _simulated({"model": model, "system_fingerprint": answer.system_fingerprint})
        return [*events, _finish(choice.finish_reason, refused, model, simulated)]

    def read(self, body: Mapping[str, Any]) -> Any:
        """A completion from its JSON, as the SDK would have read it."""
        return self._completion_type.construct(**body)

    def request(self, call: Call) -> dict[str, Any]:
        """See SdkProvider."""
        prompt = call.prompt
        request: dict[str, Any] = {
            "model": call.model,
            "messages": [
                {"role": "system", "content": prompt.system},
                {"role": "user", "content": [self._part(part, call.model) for part in prompt.parts]},
            ],
            self._cap: call.max_output_tokens,
        }
        if self._structured and prompt.answer_schema is not None:
            schema = {"name": "answer", "strict": True, "schema": dict(prompt.answer_schema)}
            request["response_format"] = {"type": "json_schema", "json_schema": schema}
        if self._tell_strategy and call.context:
            request["metadata"] = dict(call.context)
        return request

    def _part(self, part: Text | Image, model: str) -> dict[str, Any]:
        if isinstance(part, Text):
            return {"type": "text", "text": part.text}
        url = f"data:{part.media_type};base64,{base64.b64encode(part.data).decode()}"
        # Never "auto": on some families that means the original size at many times the price.
        return {"type": "image_url", "image_url": {"url": url, "detail": self._prices.images(model).detail}}


async def _read_out(events: AsyncIterator[bytes]) -> None:
    """Read to the end of the body: one that is left unread costs the connection."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_READ_OUT):
            async for _ in events:
                pass


def _finish(reason: str | None, refused: bool, model: str, simulated: bool) -> Finish:
    if reason is None:
        raise ProviderError(FailureKind.TRUNCATED, "the answer ended without a finish reason: it was cut off")
    ended = FinishReason.REFUSAL if refused else _FINISH.get(reason, FinishReason.STOP)
    return Finish(ended, model, simulated)


def _simulated(answer: Mapping[str, Any]) -> bool:
    return answer.get("system_fingerprint") == SIMULATOR or is_simulated(answer.get("model"))


def _usage(usage: Mapping[str, Any]) -> Usage:
    details = usage.get("prompt_tokens_details") or {}
    return Usage(
        input_tokens=usage.get("prompt_tokens") or 0,
        output_tokens=usage.get("completion_tokens") or 0,
        cached_input_tokens=details.get("cached_tokens") or 0,
        cache_write_tokens=details.get("cache_write_tokens") or 0,
        image_tokens=details.get("image_tokens") or 0,
    )
