"""Batches through the unmodified SDKs, strict about what they get, over a real socket."""

from __future__ import annotations

import asyncio
import json
import tomllib
from pathlib import Path

import anthropic
import httpx
import openai
import pytest
from batch_vendors import (
    ENDPOINT,
    KEY,
    RANKING,
    AnthropicVendor,
    OpenAIVendor,
    Vendor,
    end,
    play,
    rows,
)
from simulator_process import REPOSITORY
from simulator_prompts import BLUE, RED, encoded, product

pytestmark = pytest.mark.usefixtures("clock")


PRICES = tomllib.loads(Path(REPOSITORY / "service/simulator/accounting/prices.toml").read_text("utf-8"))[
    "models"
]


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


async def test_the_headers_are_checked_as_for_a_plain_call(admin: httpx.AsyncClient) -> None:
    body = {"requests": [{"custom_id": "a", "params": {}}]}
    without_version = await admin.post("/v1/messages/batches", json=body, headers={"x-api-key": "key"})
    without_key = await admin.post(
        "/v1/messages/batches", json=body, headers={"anthropic-version": "2023-06-01"}
    )
    assert (without_version.status_code, without_key.status_code) == (400, 401)


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
