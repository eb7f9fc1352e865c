"""Speaks OpenAI's chat completions, as vLLM, Ollama, llama.cpp, gateways and the simulator do too.

Format: https://platform.openai.com/docs/api-reference/chat. This is the only module that imports ``openai``,
which takes a second: it is loaded by the first provider that is opened. Batches are in ``batches``.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from typing import Any

from service.lvlm.providers.base import (
    SIMULATOR,
    Alive,
    Call,
    Event,
    FailureKind,
    Finish,
    FinishReason,
    Image,
    ImageDetail,
    ProviderError,
    Text,
    TextDelta,
    Usage,
    finish_reason,
)
from service.lvlm.providers.wire.base_urls import OPENAI_URL
from service.lvlm.providers.wire.dialect import Dialect
from service.lvlm.providers.wire.failures import failure
from service.lvlm.providers.wire.response_body import END_WAIT
from service.lvlm.providers.wire.sdk_provider import SdkProvider, client_options, is_simulated
from service.lvlm.providers.wire.untrusted_json import count, record, sequence, text

_PATH = "/chat/completions"

_USAGE_WAIT = 2.0
"""Seconds for which usage is waited for after the finish reason; without it the usage is estimated."""

_BROKEN_OFF = "error"  # finish reason of gateways for a failure of the model behind them


class OpenAIChat(SdkProvider):
    """One server with ``/chat/completions``.

    Args:
        name: configured name of the provider.
        api_key: API key; empty for servers without keys.
        image_detail: function from a model's name to the detail of its pictures. Never ``auto``, which on
            some model families means the original size at many times the price.
        base_url: base URL, up to and including ``/v1``.
        dialect: fields that the server accepts, as far as they are known; None for all of them.
        send_context: whether to send the call's context as metadata; for the simulator alone.
        account: whether to send what the SDK reads from environment variables of its own (organization,
            project, headers). They are meant for OpenAI, and no other server must see them.
    """

    def __init__(
        self,
        name: str,
        *,
        api_key: str,
        image_detail: Callable[[str], ImageDetail],
        base_url: str = OPENAI_URL,
        dialect: Dialect | None = None,
        send_context: bool = False,
        account: bool = False,
    ) -> None:
        import openai  # takes a second, which only deployments that use it should pay

        dialect = dialect or Dialect()
        client = openai.AsyncOpenAI(
            api_key=api_key or "none",  # for servers without keys: the SDK refuses an empty one
            base_url=base_url,
            **client_options(base_url, api_key, dialect),
        )
        if not account:
            # Set after construction, since an argument of None makes the SDK read the variables.
            client.organization = client.project = client.admin_api_key = None
            client._custom_headers = dict(dialect.headers)
        super().__init__(name, openai, client, _PATH, dialect)
        self._image_detail = image_detail
        self._send_context = send_context

    def request(self, call: Call, dialect: Dialect | None = None) -> dict[str, Any]:
        """See SdkProvider."""
        prompt, dialect = call.prompt, dialect or self.dialect(call.model)
        request: dict[str, Any] = {
            "model": call.model,
            "messages": self._messages(call, dialect),
            dialect.output_cap: call.max_output_tokens,
        }
        if dialect.structured_output and prompt.answer_schema is not None:
            schema = {"name": "answer", "strict": True, "schema": dict(prompt.answer_schema)}
            request["response_format"] = {"type": "json_schema", "json_schema": schema}
        if self._send_context and call.context:
            request["metadata"] = dict(call.context)
        return request

    def reader(self, model: str) -> ChatCompletionReader:
        """See SdkProvider."""
        return ChatCompletionReader(model)

    def _stream_fields(self, dialect: Dialect) -> dict[str, Any]:
        options = {"stream_options": {"include_usage": True}} if dialect.stream_options else {}
        return {"stream": True, **options}

    def _messages(self, call: Call, dialect: Dialect) -> list[dict[str, Any]]:
        prompt = call.prompt
        content: Any = [self._part(part, call.model, dialect) for part in prompt.parts]
        lead = [] if dialect.system_role else [prompt.system]
        if not dialect.content_parts:
            content = "\n\n".join([*lead, *(part["text"] for part in content if "text" in part)])
        elif lead:
            content = [{"type": "text", "text": prompt.system}, *content]
        user = {"role": "user", "content": content}
        return [{"role": "system", "content": prompt.system}, user] if dialect.system_role else [user]

    def _part(self, part: Text | Image, model: str, dialect: Dialect) -> dict[str, Any]:
        if isinstance(part, Text):
            return {"type": "text", "text": part.text}
        url = {"url": f"data:{part.media_type};base64,{base64.b64encode(part.data).decode()}"}
        if dialect.image_detail:
            url["detail"] = self._image_detail(model)
        return {"type": "image_url", "image_url": url}


class ChatCompletionReader:
    """Reads one chat completion, chunk by chunk or as a whole; see AnswerReader."""

    def __init__(self, model: str) -> None:
        self.model = model
        self.simulated = False
        self._reason: FinishReason | None = None
        self._refused = False
        self._has_usage = False

    @property
    def wait_for_rest(self) -> float | None:
        """See AnswerReader; usage comes in a chunk after the finish reason, if the server sends it."""
        if self._reason is None:
            return None
        return END_WAIT if self._has_usage else _USAGE_WAIT

    def take(self, value: object, *, plain: bool) -> list[Event]:
        """See AnswerReader."""
        chunk: Mapping[str, Any] = value if isinstance(value, dict) else {}
        # An error event inside a stream that began with 200; vLLM names it in "object".
        if chunk.get("error") or "error" in (chunk.get("object"), chunk.get("type")):
            raise failure(200, chunk)
        choices = sequence(chunk.get("choices"))
        if plain and not choices:
            raise ProviderError(FailureKind.SERVER, "the provider's answer is not a chat completion")
        if chunk.get("model") != self.model:
            self.model = text(chunk.get("model")) or self.model
        if not self.simulated:
            self.simulated = chunk.get("system_fingerprint") == SIMULATOR or is_simulated(self.model)
        events: list[Event] = []
        if choices and (answer := self._choice(_first_choice(choices))):
            events.append(TextDelta(answer))
        if chunk.get("usage") and (usage := record(chunk["usage"])):
            self._has_usage = True
            events.append(_usage(usage))
        return events or [Alive(thinking=bool(choices))]  # a choice without text: the role, or a thought

    def finish(self) -> Finish | None:
        """See AnswerReader."""
        if self._reason is None:
            return None
        reason = FinishReason.REFUSAL if self._refused else self._reason
        return Finish(reason, self.model, self.simulated)

    def _choice(self, choice: Mapping[str, Any]) -> str:
        """The text of a choice; its finish reason is kept for ``finish``.

        Raises:
            ProviderError: the choice holds an error, or ends with one.
        """
        # Some servers put a whole message into a chunk where a delta belongs.
        delta = record(choice.get("delta")) or record(choice.get("message"))
        if reason := choice.get("finish_reason"):
            if reason == _BROKEN_OFF:
                raise failure(200, {"error": record(choice.get("error"))})
            self._reason = finish_reason(text(reason)) or self._reason
        if choice.get("error"):
            raise failure(200, choice)
        if refusal := delta.get("refusal"):
            self._refused = self._refused or bool(text(refusal))
        written = _content(delta.get("content"))
        # A server may enforce the answer's schema by a tool: then its arguments are the answer.
        if calls := delta.get("tool_calls"):
            functions = (record(record(call).get("function")) for call in sequence(calls))
            written += "".join(_arguments(each) for each in functions)
        if function := delta.get("function_call"):  # deprecated form of tool_calls
            written += _arguments(record(function))
        return written


def _first_choice(choices: list[Any]) -> Mapping[str, Any]:
    """The choice with index 0, the only one asked for; some servers send more, or an empty one before it."""
    first = (each for each in map(record, choices) if each and each.get("index") in (0, None))
    return next(first, {})


def _arguments(function: Mapping[str, Any]) -> str:
    """The arguments that a model passes to a tool, as JSON text; some servers send them decoded."""
    arguments = function.get("arguments")
    return json.dumps(arguments) if isinstance(arguments, dict) else text(arguments)


def _content(content: object) -> str:
    """The text of a message's content, which is a string or a list of parts; thoughts are left out."""
    if isinstance(content, str):
        return content if content.isascii() else text(content)  # the common case first: once per token
    pieces = []
    for part in [content] if isinstance(content, dict) else sequence(content):
        fields = record(part)
        if isinstance(part, str):
            pieces.append(text(part))
        elif (fields.get("type") or "text") in ("text", "output_text") and not fields.get("thought"):
            pieces.append(text(fields.get("text")))
    return "".join(pieces)


def _usage(usage: Mapping[str, Any]) -> Usage:
    """Tokens as the server reported them; 0 for counts that are missing or no numbers."""
    details = record(usage.get("prompt_tokens_details"))
    return Usage(
        input_tokens=count(usage.get("prompt_tokens")) or 0,
        output_tokens=count(usage.get("completion_tokens")) or 0,
        cached_input_tokens=count(details.get("cached_tokens")) or 0,
        cache_write_tokens=count(details.get("cache_write_tokens")) or 0,
        image_tokens=count(details.get("image_tokens")) or 0,
    )
