"""The SDKs of both vendors with one interface to their batches, for the tests."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Protocol

import anthropic
import httpx
import openai
from simulator_prompts import data_block, image_block, image_part

ENDPOINT = "/v1/chat/completions"


TITLES = ["red plate", "blue mug", "green hat"]


RANKING = [{"role": "user", "content": data_block([{"title": "blue mug"}], TITLES)}]


KEY = {"authorization": "Bearer key", "anthropic-version": "2023-06-01"}


Results = dict[str, dict[str, Any]]


class Vendor(Protocol):
    """What these tests ask of either SDK.

    A result is ``{"type": …}``, with the ``text`` and ``usage`` of an answer or the ``error`` of a failure.
    """

    model: str

    async def create(self, requests: dict[str, dict[str, Any]]) -> str: ...

    async def status(self, batch: str) -> str: ...

    async def cancel(self, batch: str) -> str: ...

    async def results(self, batch: str) -> Results: ...

    def params(self, *, picture: bytes | None = None, **more: Any) -> dict[str, Any]: ...


class OpenAIVendor:
    """Files and batches."""

    model = "gpt-4o"

    def __init__(self, sdk: openai.AsyncOpenAI) -> None:
        self.sdk = sdk

    def params(self, *, picture: bytes | None = None, **more: Any) -> dict[str, Any]:
        shown = RANKING if picture is None else [{"role": "user", "content": [image_part(picture)]}]
        return {"model": self.model, "messages": shown, **more}

    async def upload(self, content: bytes) -> str:
        file = await self.sdk.files.create(file=("requests.jsonl", content), purpose="batch")
        assert (file.bytes, file.purpose) == (len(content), "batch")
        return file.id

    async def start(self, content: bytes, **more: Any) -> str:
        batch = await self.sdk.batches.create(
            input_file_id=await self.upload(content), endpoint=ENDPOINT, completion_window="24h", **more
        )
        assert batch.status == "validating"
        return batch.id

    async def create(self, requests: dict[str, dict[str, Any]]) -> str:
        return await self.start(jsonl(*(line(name, body) for name, body in requests.items())))

    async def status(self, batch: str) -> str:
        return (await self.sdk.batches.retrieve(batch)).status

    async def cancel(self, batch: str) -> str:
        return (await self.sdk.batches.cancel(batch)).status

    async def results(self, batch: str) -> Results:
        ended = await self.sdk.batches.retrieve(batch)
        found: Results = {}
        for file in filter(None, (ended.output_file_id, ended.error_file_id)):
            for each in (await self.sdk.files.content(file)).text.splitlines():
                entry = json.loads(each)
                assert entry["id"].startswith("batch_req_")
                found[entry["custom_id"]] = self._result(entry["response"], entry["error"])
        return found

    def _result(self, response: dict[str, Any] | None, error: dict[str, Any] | None) -> dict[str, Any]:
        if response is None:
            assert error is not None
            return {"type": {"batch_cancelled": "canceled", "batch_expired": "expired"}[error["code"]]}
        assert error is None
        body = response["body"]
        if response["status_code"] != 200:
            return {"type": "errored", "status": response["status_code"], "error": body["error"]["message"]}
        usage = body["usage"]["prompt_tokens"], body["usage"]["completion_tokens"]
        choice = body["choices"][0]
        text = choice["message"]["content"] or ""
        return {"type": "succeeded", "text": text, "usage": usage, "refusal": choice["message"]["refusal"]}


class AnthropicVendor:
    """Message batches."""

    model = "claude-haiku-4-5"

    def __init__(self, sdk: anthropic.AsyncAnthropic) -> None:
        self.sdk = sdk

    def params(self, *, picture: bytes | None = None, **more: Any) -> dict[str, Any]:
        shown = RANKING if picture is None else [{"role": "user", "content": [image_block(picture)]}]
        return {"model": self.model, "max_tokens": 500, "messages": shown, **more}

    async def create(self, requests: dict[str, dict[str, Any]]) -> str:
        entries = [{"custom_id": name, "params": params} for name, params in requests.items()]
        batch = await self.sdk.messages.batches.create(requests=entries)
        assert (batch.processing_status, batch.results_url) == ("in_progress", None)
        assert batch.request_counts.processing == len(requests)
        return batch.id

    async def status(self, batch: str) -> str:
        return (await self.sdk.messages.batches.retrieve(batch)).processing_status

    async def cancel(self, batch: str) -> str:
        return (await self.sdk.messages.batches.cancel(batch)).processing_status

    async def results(self, batch: str) -> Results:
        return {
            entry.custom_id: self._result(entry.result)
            async for entry in await self.sdk.messages.batches.results(batch)
        }

    def _result(self, result: Any) -> dict[str, Any]:
        match result.type:
            case "succeeded":
                message = result.message
                assert message.usage.service_tier == "batch"
                text = "".join(block.text for block in message.content)
                usage = message.usage.input_tokens, message.usage.output_tokens
                return {"type": "succeeded", "text": text, "usage": usage, "refusal": message.stop_reason}
            case "errored":
                assert result.error.type == "error"
                return {"type": "errored", "error": result.error.error.message}
        return {"type": result.type}


def line(custom_id: Any, body: Any, **more: Any) -> dict[str, Any]:
    return {"custom_id": custom_id, "method": "POST", "url": ENDPOINT, "body": body, **more}


def jsonl(*lines: Any) -> bytes:
    return b"".join(json.dumps(each).encode() + b"\n" for each in lines)


async def end(vendor: Vendor, batch: str) -> str:
    """Wait for the end of a batch; the status that it ended with."""
    for _ in range(500):
        status = await vendor.status(batch)
        if status in ("failed", "completed", "expired", "cancelled", "ended"):
            return status
        await asyncio.sleep(0.01)
    raise AssertionError("the batch never ended")


def connect(name: str, url: str) -> OpenAIVendor | AnthropicVendor:
    if name == "openai":
        return OpenAIVendor(
            openai.AsyncOpenAI(
                api_key="key",
                base_url=f"{url}/v1",
                max_retries=0,
                _strict_response_validation=True,
                http_client=openai.DefaultAsyncHttpxClient(verify=False),  # no certificates to load
            )
        )
    return AnthropicVendor(
        anthropic.AsyncAnthropic(
            api_key="key",
            base_url=url,
            max_retries=0,
            _strict_response_validation=True,
            http_client=anthropic.DefaultAsyncHttpxClient(verify=False),
        )
    )


async def play(admin: httpx.AsyncClient, *phases: dict[str, Any], **script: Any) -> None:
    response = await admin.put("/faults", json={"phases": phases, **script})
    assert response.status_code == 204, response.text


async def rows(admin: httpx.AsyncClient) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await admin.get("/ledger")).json()
    return found
