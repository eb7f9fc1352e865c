"""Batches through the unmodified SDKs, strict about what they get, over a real socket."""

from __future__ import annotations

import asyncio
import json
import tomllib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Protocol

import anthropic
import httpx
import openai
import pytest
from served import simulator_served
from simulator_process import REPOSITORY
from simulator_prompts import BLUE, RED, data_block, encoded, image_block, image_part, product

from service.simulator.batches.openai_input import BatchInput

pytestmark = pytest.mark.usefixtures("clock")

PRICES = tomllib.loads(Path(REPOSITORY / "service/simulator/books/prices.toml").read_text("utf-8"))["models"]
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


@pytest.fixture
async def url() -> AsyncIterator[str]:
    async with simulator_served(batch_seconds=0.1) as url:
        yield url


@pytest.fixture
async def slow_url() -> AsyncIterator[str]:
    """A simulator whose batches last long enough to be looked at."""
    async with simulator_served(batch_seconds=0.6) as url:
        yield url


@pytest.fixture
async def admin(url: str) -> AsyncIterator[httpx.AsyncClient]:
    """Speaks to the simulator without an SDK."""
    async with httpx.AsyncClient(base_url=url, trust_env=False, verify=False) as http:
        yield http


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


@pytest.fixture(params=["openai", "anthropic"])
async def vendor(request: pytest.FixtureRequest, url: str) -> AsyncIterator[OpenAIVendor | AnthropicVendor]:
    vendor = connect(request.param, url)
    async with vendor.sdk:
        yield vendor


@pytest.fixture(params=["openai", "anthropic"])
async def slow_vendor(
    request: pytest.FixtureRequest, slow_url: str
) -> AsyncIterator[OpenAIVendor | AnthropicVendor]:
    vendor = connect(request.param, slow_url)
    async with vendor.sdk:
        yield vendor


@pytest.fixture
async def of_openai(url: str) -> AsyncIterator[OpenAIVendor]:
    vendor = connect("openai", url)
    assert isinstance(vendor, OpenAIVendor)
    async with vendor.sdk:
        yield vendor


@pytest.fixture
async def of_anthropic(url: str) -> AsyncIterator[AnthropicVendor]:
    vendor = connect("anthropic", url)
    assert isinstance(vendor, AnthropicVendor)
    async with vendor.sdk:
        yield vendor


async def play(admin: httpx.AsyncClient, *phases: dict[str, Any], **script: Any) -> None:
    response = await admin.put("/faults", json={"phases": phases, **script})
    assert response.status_code == 204, response.text


async def rows(admin: httpx.AsyncClient) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await admin.get("/ledger")).json()
    return found


async def test_every_request_of_a_batch_is_answered_as_a_plain_call_would_be(vendor: Vendor) -> None:
    batch = await vendor.create({f"item-{n}": vendor.params() for n in range(5)})
    assert await end(vendor, batch) in ("completed", "ended")
    results = await vendor.results(batch)
    assert set(results) == {f"item-{n}" for n in range(5)}
    assert all(json.loads(each["text"])["ranking"][0] == "B" for each in results.values())


async def test_results_do_not_come_in_the_order_of_the_requests(vendor: Vendor) -> None:
    names = [f"item-{n}" for n in range(20)]
    batch = await vendor.create({name: vendor.params() for name in names})
    await end(vendor, batch)
    results = list(await vendor.results(batch))
    assert results != names
    assert sorted(results) == sorted(names)


async def test_a_picture_in_a_batch_is_looked_at(vendor: Vendor, admin: httpx.AsyncClient) -> None:
    pictures = {"red": encoded(product(RED)), "blue": encoded(product(BLUE))}
    batch = await vendor.create({name: vendor.params(picture=data) for name, data in pictures.items()})
    await end(vendor, batch)
    for name, result in (await vendor.results(batch)).items():
        assert name in result["text"]
    kept = [await admin.get(f"/ledger/{row['number']}/picture") for row in await rows(admin)]
    assert {response.content for response in kept} == set(pictures.values())


async def test_a_request_of_a_batch_is_billed_half_the_price_to_the_cent(
    vendor: Vendor, admin: httpx.AsyncClient
) -> None:
    picture = encoded(product(RED))
    batch = await vendor.create({"one": vendor.params(), "two": vendor.params(picture=picture)})
    await end(vendor, batch)
    results, price = await vendor.results(batch), PRICES[vendor.model]
    calls = await rows(admin)
    assert [call["batch"] for call in calls] == [batch, batch]
    for call, result in zip(calls, (results["one"], results["two"]), strict=True):
        tokens = call["billed_input_tokens"], call["billed_output_tokens"]
        assert tokens == result["usage"]
        assert call["cost_usd"] == pytest.approx(
            (tokens[0] * price["input"] + tokens[1] * price["output"]) / 2e6, rel=1e-12
        )
        assert (call["outcome"], call["status"], call["usage_sent"]) == ("ok", 200, True)


async def test_a_batch_is_not_in_flight_and_spends_nothing_of_the_minute(
    vendor: Vendor, admin: httpx.AsyncClient
) -> None:
    await play(admin, capacity=1, requests_per_minute=1)
    batch = await vendor.create({f"item-{n}": vendor.params() for n in range(5)})
    await end(vendor, batch)
    assert {each["type"] for each in (await vendor.results(batch)).values()} == {"succeeded"}
    assert (await admin.get("/health")).json()["in_flight"] == 0


async def test_one_broken_request_does_not_harm_the_others(vendor: Vendor, admin: httpx.AsyncClient) -> None:
    whole = encoded(product(RED))
    batch = await vendor.create(
        {
            "well": vendor.params(),
            "no_messages": vendor.params(messages=[]),
            "no_picture": vendor.params(picture=b"this is no picture"),
            "half_a_picture": vendor.params(picture=whole[: len(whole) // 2]),
            "stream": vendor.params(stream=True),
        }
    )
    assert await end(vendor, batch) in ("completed", "ended")
    results = await vendor.results(batch)
    assert results.pop("well")["type"] == "succeeded"
    assert [each["type"] for each in results.values()] == ["errored"] * 4
    assert all(each["error"] for each in results.values())
    calls = await rows(admin)
    assert [call["outcome"] for call in calls] == ["ok", *["rejected"] * 4]
    assert [call["status"] for call in calls] == [200, *[400] * 4]
    assert sum(call["cost_usd"] for call in calls) == calls[0]["cost_usd"]


async def test_each_request_meets_its_own_fault(vendor: Vendor, admin: httpx.AsyncClient) -> None:
    faults = ["400", "401", "429", "500", "529", "refusal", "prose", "half_label", "reset", "straggler", None]
    await play(admin, *({"fault": fault, "calls": 1} for fault in faults))
    batch = await vendor.create({str(fault): vendor.params() for fault in faults})
    assert await end(vendor, batch) in ("completed", "ended")
    results = await vendor.results(batch)
    failed = {name for name, each in results.items() if each["type"] == "errored"}
    assert failed == {"400", "401", "429", "500", "529", "reset", "straggler"}
    if isinstance(vendor, OpenAIVendor):  # which has no 529, and says 503
        statuses = {name: results[name]["status"] for name in failed}
        assert statuses == {"400": 400, "401": 401, "429": 429, "500": 500, "529": 503, "reset": 500,
                            "straggler": 500}  # fmt: skip
    assert results["refusal"]["refusal"]
    assert results["prose"]["text"].startswith("The user seems")
    assert not results["half_label"]["text"].endswith("}")
    assert json.loads(results["None"]["text"])["ranking"]
    for call in await rows(admin):
        assert bool(call["cost_usd"]) == (call["fault"] not in failed)


async def test_a_request_in_a_black_hole_expires_and_is_not_billed(
    vendor: Vendor, admin: httpx.AsyncClient
) -> None:
    await play(admin, {"fault": None, "calls": 1}, {"fault": "black_hole"})
    batch = await vendor.create({"well": vendor.params(), "lost": vendor.params()})
    assert await end(vendor, batch) in ("expired", "ended")
    results = await vendor.results(batch)
    assert {name: each["type"] for name, each in results.items()} == {"well": "succeeded", "lost": "expired"}
    calls = await rows(admin)
    assert [call["outcome"] for call in calls] == ["ok", "expired"]
    assert (calls[1]["billed_input_tokens"], calls[1]["cost_usd"]) == (0, 0.0)


async def test_a_cancelled_batch_keeps_what_was_answered_and_leaves_the_rest(slow_vendor: Vendor) -> None:
    names = [f"item-{n}" for n in range(30)]
    batch = await slow_vendor.create({name: slow_vendor.params() for name in names})
    await asyncio.sleep(0.2)
    assert await slow_vendor.cancel(batch) in ("cancelling", "canceling")
    assert await end(slow_vendor, batch) in ("cancelled", "ended")
    results = await slow_vendor.results(batch)
    types = [results[name]["type"] for name in names]
    answered = types.count("succeeded")
    assert 0 < answered < len(names)
    assert types == ["succeeded"] * answered + ["canceled"] * (len(names) - answered)


async def test_a_batch_that_has_ended_cannot_be_cancelled(vendor: Vendor) -> None:
    batch = await vendor.create({"one": vendor.params()})
    await end(vendor, batch)
    with pytest.raises((openai.ConflictError, anthropic.BadRequestError)):
        await vendor.cancel(batch)


@pytest.mark.parametrize(
    ("fault", "error"), [("401", "Authentication"), ("429", "RateLimit"), ("500", "InternalServer")]
)
async def test_a_fault_for_batches_hits_their_own_calls_alone(
    vendor: Vendor, admin: httpx.AsyncClient, fault: str, error: str
) -> None:
    refused = (getattr(openai, f"{error}Error"), getattr(anthropic, f"{error}Error"))
    healthy = await vendor.create({"one": vendor.params()})
    await play(admin, {"fault": fault, "models": ["batches"], "calls": 2, "retry_after": 1})
    with pytest.raises(refused):
        await vendor.status(healthy)
    with pytest.raises(refused):
        await vendor.create({"two": vendor.params()})
    await end(vendor, healthy)
    assert (await vendor.results(healthy))["one"]["type"] == "succeeded"


async def test_a_fault_for_all_models_leaves_the_calls_about_batches_alone(
    vendor: Vendor, admin: httpx.AsyncClient
) -> None:
    await play(admin, {"fault": "500"})
    batch = await vendor.create({"one": vendor.params()})
    await end(vendor, batch)
    assert (await vendor.results(batch))["one"]["type"] == "errored"


async def test_a_batch_whose_creation_was_never_answered_exists_all_the_same(
    of_anthropic: AnthropicVendor, admin: httpx.AsyncClient
) -> None:
    await play(admin, {"fault": "reset", "models": ["batches"], "calls": 1})
    with pytest.raises(anthropic.APIConnectionError):
        await of_anthropic.create({"lost-and-found": of_anthropic.params()})
    newest = (await of_anthropic.sdk.messages.batches.list(limit=1)).data[0]
    await end(of_anthropic, newest.id)
    assert set(await of_anthropic.results(newest.id)) == {"lost-and-found"}


async def test_an_openai_batch_goes_through_its_statuses_one_after_the_other(slow_url: str) -> None:
    vendor = connect("openai", slow_url)
    assert isinstance(vendor, OpenAIVendor)
    async with vendor.sdk:
        batch = await vendor.start(jsonl(*(line(str(n), vendor.params()) for n in range(3))))
        seen = ["validating"]
        while seen[-1] != "completed":
            now = await vendor.sdk.batches.retrieve(batch)
            seen += [now.status] if now.status != seen[-1] else []
            await asyncio.sleep(0.01)
    assert seen == ["validating", "in_progress", "finalizing", "completed"]
    assert (now.request_counts.total, now.request_counts.completed, now.request_counts.failed) == (3, 3, 0)
    assert now.created_at <= now.in_progress_at <= now.finalizing_at <= now.completed_at
    assert now.expires_at == now.created_at + 86_400
    assert (now.error_file_id, now.failed_at, now.errors) == (None, None, None)


async def test_an_openai_batch_brings_its_metadata_back(of_openai: OpenAIVendor) -> None:
    batch = await of_openai.start(jsonl(line("a", of_openai.params())), metadata={"run": "7"})
    assert (await of_openai.sdk.batches.retrieve(batch)).metadata == {"run": "7"}


async def test_a_file_is_there_until_it_is_deleted(of_openai: OpenAIVendor) -> None:
    content, files = jsonl(line("a", of_openai.params())), of_openai.sdk.files
    file = await of_openai.upload(content)
    assert (await files.retrieve(file)).filename == "requests.jsonl"
    assert (await files.content(file)).content == content
    assert (await files.delete(file)).deleted
    for gone in (files.retrieve, files.content, files.delete):
        with pytest.raises(openai.NotFoundError):
            await gone(file)


async def test_openai_lists_the_newest_batch_first_page_by_page(of_openai: OpenAIVendor) -> None:
    made = [await of_openai.start(jsonl(line("a", of_openai.params()))) for _ in range(5)]
    first = await of_openai.sdk.batches.list(limit=2)
    assert [batch.id for batch in first.data] == [made[4], made[3]]
    assert first.has_more
    second = await of_openai.sdk.batches.list(limit=2, after=made[3])
    assert [batch.id for batch in second.data] == [made[2], made[1]]
    everything = [batch.id async for batch in of_openai.sdk.batches.list(limit=2)]
    assert everything[:5] == made[::-1]
    assert len(everything) == len(set(everything))


async def test_anthropic_lists_the_newest_batch_first_in_both_directions(
    of_anthropic: AnthropicVendor,
) -> None:
    batches = of_anthropic.sdk.messages.batches
    made = [await of_anthropic.create({"a": of_anthropic.params()}) for _ in range(5)]
    first = await batches.list(limit=2)
    assert [batch.id for batch in first.data] == [made[4], made[3]]
    assert (first.has_more, first.first_id, first.last_id) == (True, made[4], made[3])
    second = await batches.list(limit=2, after_id=made[3])
    assert [batch.id for batch in second.data] == [made[2], made[1]]
    back = await batches.list(limit=2, before_id=made[1])
    assert [batch.id for batch in back.data] == [made[3], made[2]]
    assert back.has_more
    newest = await batches.list(limit=2, before_id=made[3])
    assert [batch.id for batch in newest.data] == [made[4]]
    assert not newest.has_more
    assert [batch.id async for batch in batches.list(limit=2)][:5] == made[::-1]


async def test_anthropic_counts_the_requests_when_all_have_ended(slow_url: str) -> None:
    vendor = connect("anthropic", slow_url)
    assert isinstance(vendor, AnthropicVendor)
    async with vendor.sdk:
        batch = await vendor.create({"well": vendor.params(), "sick": vendor.params(messages=[])})
        await asyncio.sleep(0.3)
        running = await vendor.sdk.messages.batches.retrieve(batch)
        await end(vendor, batch)
        ended = await vendor.sdk.messages.batches.retrieve(batch)
    assert (running.request_counts.processing, running.request_counts.succeeded) == (2, 0)
    counts = ended.request_counts
    assert (counts.processing, counts.succeeded, counts.errored) == (0, 1, 1)
    assert running.ended_at is None
    assert ended.ended_at is not None
    assert ended.created_at < ended.ended_at < ended.expires_at


async def test_results_before_the_end_are_not_found(slow_url: str) -> None:
    vendor = connect("anthropic", slow_url)
    assert isinstance(vendor, AnthropicVendor)
    async with vendor.sdk, httpx.AsyncClient(verify=False) as http:
        batch = await vendor.create({"a": vendor.params()})
        early = await http.get(f"{slow_url}/v1/messages/batches/{batch}/results", headers=KEY)
    assert (early.status_code, early.json()["error"]["type"]) == (404, "not_found_error")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/files/file-x"),
        ("GET", "/v1/files/file-x/content"),
        ("DELETE", "/v1/files/file-x"),
        ("GET", "/v1/batches/batch_x"),
        ("GET", "/v1/batches?after=batch_x"),
        ("POST", "/v1/batches/batch_x/cancel"),
        ("GET", "/v1/messages/batches/msgbatch_x"),
        ("GET", "/v1/messages/batches/msgbatch_x/results"),
        ("GET", "/v1/messages/batches?after_id=msgbatch_x"),
        ("GET", "/v1/messages/batches?before_id=msgbatch_x"),
        ("POST", "/v1/messages/batches/msgbatch_x/cancel"),
    ],
)
async def test_an_unknown_id_is_not_found(admin: httpx.AsyncClient, method: str, path: str) -> None:
    response = await admin.request(method, path, headers=KEY)
    assert response.status_code == 404
    assert response.json()["error"]["message"]
    assert (await admin.request(method, path)).status_code == 401


@pytest.mark.parametrize("path", ["/v1/batches", "/v1/messages/batches"])
@pytest.mark.parametrize("limit", ["0", "-1", "x", "1001", "9" * 5000, "²", ""])
async def test_a_limit_that_is_none_is_refused(admin: httpx.AsyncClient, path: str, limit: str) -> None:
    response = await admin.get(path, params={"limit": limit}, headers=KEY)
    assert response.status_code == 400


GOOD = line("a", {"model": "gpt-4o", "messages": RANKING})


@pytest.mark.parametrize(
    ("content", "code", "at"),
    [
        (b"\n \n", "empty_file", None),
        (b"this is not JSON", "invalid_json_line", 1),
        (jsonl(GOOD) + b"\n[1]\n", "invalid_json_line", 3),
        (jsonl(GOOD) + b"\xff\xfe\x00", "invalid_json_line", 2),
        (b"[" * 100_000, "invalid_json_line", 1),
        (jsonl(GOOD, GOOD), "duplicate_custom_id", 2),
        (jsonl(line(7, {})), "invalid_type", 1),
        (jsonl({"custom_id": "a", "url": ENDPOINT, "body": {}}), "missing_required_parameter", 1),
        (jsonl(line("a", [])), "invalid_type", 1),
        (jsonl(line("a", {}, method="GET")), "invalid_method", 1),
        (jsonl(line("a", {}, url="/v1/embeddings")), "url_mismatch", 1),
        (jsonl(GOOD, line("b", {"model": "gpt-4o-mini"})), "model_mismatch", 2),
    ],
)
async def test_a_file_with_a_mistake_fails_the_whole_batch_and_costs_nothing(
    of_openai: OpenAIVendor, admin: httpx.AsyncClient, content: bytes, code: str, at: int | None
) -> None:
    batch = await of_openai.start(content)
    assert await end(of_openai, batch) == "failed"
    failed = await of_openai.sdk.batches.retrieve(batch)
    assert failed.failed_at is not None
    assert failed.output_file_id is failed.error_file_id is None
    assert (failed.errors.data[0].code, failed.errors.data[0].line) == (code, at)
    assert failed.errors.data[0].message
    assert await rows(admin) == []


async def test_a_batch_without_its_input_fails(of_openai: OpenAIVendor) -> None:
    output = await of_openai.create({"a": of_openai.params()})
    await end(of_openai, output)
    answers = (await of_openai.sdk.batches.retrieve(output)).output_file_id
    for file in ("file-x", answers):
        batch = await of_openai.sdk.batches.create(
            input_file_id=file, endpoint=ENDPOINT, completion_window="24h"
        )
        assert await end(of_openai, batch.id) == "failed"


def test_a_file_of_more_requests_than_the_vendor_takes_is_refused() -> None:
    entries = b"".join(b'{"custom_id":"%d"}\n' % n for n in range(50_001))
    errors = BatchInput(entries).check()
    assert [error["code"] for error in errors] == ["too_many_tasks"]


@pytest.mark.parametrize(
    "change",
    [
        {"endpoint": "/v1/embeddings"},
        {"endpoint": None},
        {"completion_window": "1h"},
        {"input_file_id": 7},
        {"metadata": {"a": 1}},
        {"metadata": {"a": "x" * 513}},
        {"metadata": {str(n): "" for n in range(17)}},
        {"metadata": []},
    ],
)
async def test_a_wrong_parameter_of_an_openai_batch_is_refused(
    admin: httpx.AsyncClient, change: dict[str, Any]
) -> None:
    right = {"input_file_id": "file-x", "endpoint": ENDPOINT, "completion_window": "24h"}
    response = await admin.post("/v1/batches", json={**right, **change}, headers=KEY)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == next(iter(change))


@pytest.mark.parametrize(
    ("fields", "file"),
    [
        ({"purpose": "fine-tune"}, ("a.jsonl", b"{}")),
        ({}, ("a.jsonl", b"{}")),
        ({"purpose": "batch"}, ("a.txt", b"{}")),
        ({"purpose": "batch"}, ("a.jsonl", b"")),
        ({"purpose": "batch"}, None),
        ({"purpose": "batch", "file": "not a file"}, None),
        ({"purpose": "x" * 2_000_000}, ("a.jsonl", b"{}")),
        ({"purpose": "batch", **{str(n): "" for n in range(20)}}, ("a.jsonl", b"{}")),
    ],
)
async def test_an_upload_that_is_no_batch_is_refused(
    admin: httpx.AsyncClient, fields: dict[str, str], file: tuple[str, bytes] | None
) -> None:
    files: Any = {"file": file} if file else {"other": ("b.jsonl", b"{}")}
    response = await admin.post("/v1/files", data=fields, files=files, headers=KEY)
    assert response.status_code == 400
    assert response.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    "content_type",
    [
        "",
        "application/json",
        "multipart/form-data",
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary=x",
        "multipart/form-data; boundary=x; charset=base64",
        "multipart/form-data; boundary=x; charset=undefined",
    ],
)
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"--x\r\n",
        b"--x\r\nContent-Disposition: form-data\r\n\r\n--x--",
        b'--x\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n--x--\r\n',
    ],
)
async def test_an_upload_that_is_no_form_is_refused(
    admin: httpx.AsyncClient, content_type: str, body: bytes
) -> None:
    headers = {**KEY, "content-type": content_type}
    assert (await admin.post("/v1/files", content=body, headers=headers)).status_code == 400


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not JSON",
        b"[]",
        b"{}",
        b"[" * 100_000,
        json.dumps({"requests": {}}).encode(),
        json.dumps({"requests": []}).encode(),
        json.dumps({"requests": [None]}).encode(),
        json.dumps({"requests": [{"custom_id": "a"}]}).encode(),
        json.dumps({"requests": [{"custom_id": 1, "params": {}}]}).encode(),
        json.dumps({"requests": [{"custom_id": "a", "params": []}]}).encode(),
        *(
            json.dumps({"requests": [{"custom_id": name, "params": {}}]}).encode()
            for name in ("", "a b", "a\n", "ä", "\ud800", "x" * 65, "x" * 1_000_000)
        ),
        json.dumps({"requests": [{"custom_id": "a", "params": {}}] * 2}).encode(),
    ],
)
async def test_an_anthropic_batch_with_a_mistake_is_refused(admin: httpx.AsyncClient, body: bytes) -> None:
    response = await admin.post("/v1/messages/batches", content=body, headers=KEY)
    assert response.status_code == 400
    assert response.json()["error"]["type"] == "invalid_request_error"


async def test_the_headers_are_checked_as_for_a_plain_call(admin: httpx.AsyncClient) -> None:
    body = {"requests": [{"custom_id": "a", "params": {}}]}
    without_version = await admin.post("/v1/messages/batches", json=body, headers={"x-api-key": "key"})
    without_key = await admin.post(
        "/v1/messages/batches", json=body, headers={"anthropic-version": "2023-06-01"}
    )
    assert (without_version.status_code, without_key.status_code) == (400, 401)


async def test_whatever_stands_in_a_batch_comes_back_unharmed(
    of_openai: OpenAIVendor, admin: httpx.AsyncClient
) -> None:
    names = ["x" * 100_000, "\ud800", "\u2028", "", '"}\n{"']
    batch = await of_openai.start(
        jsonl(
            *(
                line(name, {"model": "\ud800", "messages": [{"role": "user", "content": name}]})
                for name in names
            )
        ),
    )
    assert await end(of_openai, batch) == "completed"
    file = (await of_openai.sdk.batches.retrieve(batch)).output_file_id
    lines = (await of_openai.sdk.files.content(file)).content.split(b"\n")
    assert {json.loads(each)["custom_id"] for each in lines if each} == set(names)
    assert len(await rows(admin)) == len(names)
    made = await admin.post(
        "/v1/batches",
        content=json.dumps(
            {
                "input_file_id": "\ud800",
                "endpoint": ENDPOINT,
                "completion_window": "24h",
                "metadata": {"\ud800": "\udfff"},
            }
        ),
        headers=KEY,
    )
    assert made.json()["metadata"] == {"\ud800": "\udfff"}


async def test_a_plain_call_is_answered_while_a_large_batch_is(
    vendor: Vendor, admin: httpx.AsyncClient
) -> None:
    batch = await vendor.create({f"item-{n}": vendor.params() for n in range(1_000)})
    plain = await admin.post(ENDPOINT, json={"model": "gpt-4o", "messages": RANKING}, headers=KEY)
    assert plain.status_code == 200
    assert await vendor.status(batch) in ("validating", "in_progress")
    await end(vendor, batch)
    assert len(await vendor.results(batch)) == 1_000
    batches = [call["batch"] for call in await rows(admin)]
    assert (batches.count(batch), batches.count(None)) == (1_000, 1)
