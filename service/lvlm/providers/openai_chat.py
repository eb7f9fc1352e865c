"""OpenAI's chat completions, and all that speak them: vLLM, Ollama, llama.cpp, gateways, the simulator.

The one home of ``openai``, which takes a second to import: it is loaded by the first provider made.
"""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, contextmanager
from typing import Any

import httpx2

from service.lvlm.pricing import Prices
from service.lvlm.providers.base import (
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
from service.lvlm.providers.transport import http_client

OPENAI_URL = "https://api.openai.com/v1"
SIMULATOR = "simulator"

_FINISH = {"length": FinishReason.LENGTH, "content_filter": FinishReason.REFUSAL}


class OpenAIChat:
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

        self._openai = openai
        self._name = name
        self._prices = prices
        self._cap = "max_tokens" if compatible else "max_completion_tokens"
        self._structured = structured
        self._tell_strategy = tell_strategy
        self._client = openai.AsyncOpenAI(
            api_key=api_key or "none",  # servers without keys; the SDK insists on one
            base_url=base_url,
            max_retries=0,
            timeout=None,
            http_client=http_client(base_url),
        )
        self._completions = (
            self._client.chat.completions
        )  # imports more; the first request must not wait for it

    @property
    def name(self) -> str:
        """See Provider."""
        return self._name

    async def close(self) -> None:
        """See Provider."""
        await self._client.close()

    async def stream(self, call: Call) -> AsyncIterator[Event]:
        """See Provider."""
        with self._failures():
            if call.stream:
                async with aclosing(self._streamed(call)) as events:  # closing this closes that, at once
                    async for event in events:
                        yield event
            else:
                for event in await self._plain(call):
                    yield event

    async def _streamed(self, call: Call) -> AsyncGenerator[Event]:
        chunks = await self._completions.create(
            **self._request(call), stream=True, stream_options={"include_usage": True}
        )
        reason, refused, simulated, model = None, False, False, call.model
        async with chunks:
            async for chunk in chunks:
                model = chunk.model or model
                simulated = simulated or _simulated(chunk)
                if chunk.usage:
                    yield _usage(chunk.usage)
                for choice in chunk.choices or ():
                    refused = refused or bool(choice.delta and choice.delta.refusal)
                    reason = choice.finish_reason or reason
                    if choice.delta and choice.delta.content:
                        yield TextDelta(choice.delta.content)
        yield _finish(reason, refused, model, simulated)

    async def _plain(self, call: Call) -> list[Event]:
        completion = await self._completions.create(**self._request(call), stream=False)
        if not isinstance(completion, self._openai.types.chat.ChatCompletion) or not completion.choices:
            raise ProviderError(FailureKind.SERVER, "the provider's answer is not a chat completion")
        choice = completion.choices[0]
        events: list[Event] = []
        if choice.message and choice.message.content:
            events.append(TextDelta(choice.message.content))
        if completion.usage:
            events.append(_usage(completion.usage))
        refused = bool(choice.message and choice.message.refusal)
        model = completion.model or call.model
        return [*events, _finish(choice.finish_reason, refused, model, _simulated(completion))]

    def _request(self, call: Call) -> dict[str, Any]:
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

    @contextmanager
    def _failures(self) -> Iterator[None]:
        """Turn the SDK's errors into ours.

        ``from None`` throughout: the SDK's messages quote response bodies, and those quote requests and keys.
        """
        try:
            yield
        except self._openai.APIStatusError as error:
            raise failure(error.status_code, error.body, error.response.headers, error.request_id) from None
        except self._openai.APITimeoutError:
            raise ProviderError(FailureKind.TIMEOUT, "the connection timed out") from None
        except self._openai.APIConnectionError:
            raise ProviderError(FailureKind.CONNECTION, "the connection failed or broke off") from None
        except self._openai.APIError as error:  # an error event inside a stream that began with 200
            raise failure(200, error.body) from None
        except httpx2.HTTPError as error:
            raise ProviderError(
                FailureKind.CONNECTION, f"the connection broke off: {type(error).__name__}"
            ) from None
        except json.JSONDecodeError:
            raise ProviderError(FailureKind.SERVER, "the provider sent something that is not JSON") from None
        except (AttributeError, TypeError, ValueError) as error:  # the SDK does not check what it parses
            raise ProviderError(
                FailureKind.SERVER, f"the answer is malformed: {type(error).__name__}"
            ) from None


def _finish(reason: str | None, refused: bool, model: str, simulated: bool) -> Finish:
    if reason is None:
        raise ProviderError(FailureKind.TRUNCATED, "the answer ended without a finish reason: it was cut off")
    ended = FinishReason.REFUSAL if refused else _FINISH.get(reason, FinishReason.STOP)
    return Finish(ended, model, simulated)


def _simulated(answer: Any) -> bool:
    return answer.system_fingerprint == SIMULATOR or str(answer.model).startswith(f"{SIMULATOR}/")


def _usage(usage: Any) -> Usage:
    details = usage.prompt_tokens_details
    return Usage(
        input_tokens=usage.prompt_tokens or 0,
        output_tokens=usage.completion_tokens or 0,
        cached_input_tokens=getattr(details, "cached_tokens", None) or 0,
        cache_write_tokens=getattr(details, "cache_write_tokens", None) or 0,
        image_tokens=getattr(details, "image_tokens", None) or 0,
    )
