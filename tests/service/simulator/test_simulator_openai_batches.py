"""Files and batches of OpenAI."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import openai
import pytest
from batch_vendors import (
    ENDPOINT,
    KEY,
    RANKING,
    OpenAIVendor,
    connect,
    end,
    jsonl,
    line,
    rows,
)

from service.simulator.batches.openai_input import BatchInput

pytestmark = pytest.mark.usefixtures("clock")


async def test_an_openai_batch_goes_through_its_statuses_one_after_the_other(slow_batch_url: str) -> None:
    vendor = connect("openai", slow_batch_url)
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
