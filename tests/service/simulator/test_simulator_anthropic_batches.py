"""Message batches of Anthropic."""

from __future__ import annotations

import asyncio
import json

import httpx
import pytest
from batch_vendors import (
    KEY,
    AnthropicVendor,
    connect,
    end,
)

pytestmark = pytest.mark.usefixtures("clock")


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


async def test_anthropic_counts_the_requests_when_all_have_ended(slow_batch_url: str) -> None:
    vendor = connect("anthropic", slow_batch_url)
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


async def test_results_before_the_end_are_not_found(slow_batch_url: str) -> None:
    vendor = connect("anthropic", slow_batch_url)
    assert isinstance(vendor, AnthropicVendor)
    async with vendor.sdk, httpx.AsyncClient(verify=False) as http:
        batch = await vendor.create({"a": vendor.params()})
        early = await http.get(f"{slow_batch_url}/v1/messages/batches/{batch}/results", headers=KEY)
    assert (early.status_code, early.json()["error"]["type"]) == (404, "not_found_error")


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
