"""The simulator as a process: start, ledger, pace, disconnects, load, end."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import openai
import pytest
from moved_clock import MovedClock
from served import simulator_served
from simulator_process import REPOSITORY
from simulator_prompts import BLUE, RED, data_block, encoded, grid, image_part, product

from service.simulator.__main__ import main
from service.simulator.latency_profiles import Fast

COMMAND = [sys.executable, "-m", "service.simulator"]
FIRST, RATE = 0.2, 100.0  # seconds to the first token, tokens per second
HELLO = [{"role": "user", "content": "hello"}]


@pytest.fixture
async def slow_url(clock: MovedClock) -> AsyncIterator[str]:
    """A simulator whose answers take time."""
    async with simulator_served(Fast(FIRST, RATE)) as url:
        yield url


@pytest.fixture
async def http(slow_url: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=slow_url, verify=False) as http:
        yield http


def sdk(url: str) -> openai.AsyncOpenAI:
    plain_http = openai.DefaultAsyncHttpxClient(verify=False)  # no certificates to load: much faster
    return openai.AsyncOpenAI(api_key="key", base_url=f"{url}/v1", max_retries=0, http_client=plain_http)


async def last_call(http: httpx.AsyncClient) -> dict[str, Any]:
    """The last call, once it has ended."""
    for _ in range(100):
        rows = (await http.get("/ledger")).json()
        if rows and rows[-1]["outcome"] != "running":
            return rows[-1]
        await asyncio.sleep(0.02)
    raise AssertionError("the call never ended")


async def test_tokens_arrive_one_after_the_other_at_the_pace_of_the_profile(
    slow_url: str, clock: MovedClock
) -> None:
    async with sdk(slow_url) as client:
        started = clock.now()
        stream = await client.chat.completions.create(model="m", messages=HELLO, stream=True)
        arrivals = [clock.now() - started async for c in stream if c.choices[0].delta.content]
    assert len(arrivals) > 3
    assert arrivals == pytest.approx([FIRST + at / RATE for at in range(len(arrivals))])


async def test_a_plain_answer_takes_as_long_as_its_stream_would(slow_url: str, clock: MovedClock) -> None:
    async with sdk(slow_url) as client:
        started = clock.now()
        completion = await client.chat.completions.create(model="m", messages=HELLO)
        seconds = clock.now() - started
    assert seconds == pytest.approx(FIRST + (completion.usage.completion_tokens - 1) / RATE)


async def test_a_stream_that_the_client_leaves_stops_and_is_noted(
    slow_url: str, http: httpx.AsyncClient
) -> None:
    async with sdk(slow_url) as client:
        stream = await client.chat.completions.create(model="m", messages=HELLO, stream=True)
        received = 0
        async for _ in stream:
            received += 1
            if received == 5:
                break
        await stream.close()
    call = await last_call(http)
    assert (call["outcome"], call["disconnected"]) == ("disconnected", True)
    assert 4 <= call["tokens_sent"] < call["output_tokens"]


async def test_a_plain_call_that_the_client_leaves_stops_at_once(
    slow_url: str, http: httpx.AsyncClient
) -> None:
    async with sdk(slow_url) as client:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await client.chat.completions.create(model="m", messages=HELLO)
    call = await last_call(http)
    assert (call["outcome"], call["tokens_sent"]) == ("disconnected", 0)
    assert call["seconds"] < FIRST
    assert (await http.get("/health")).json()["in_flight"] == 0


async def test_the_ledger_has_what_the_client_was_billed(slow_url: str, http: httpx.AsyncClient) -> None:
    picture = encoded(grid([product(RED), product(BLUE)], columns=2))
    block = data_block([{"cell": 1}, {"cell": 2}], ["red mug", "blue mug"], top=1)
    content = [image_part(picture), {"type": "text", "text": block}]
    async with sdk(slow_url) as client:
        completion = await client.chat.completions.create(
            model="gpt-4o", messages=[{"role": "user", "content": content}], metadata={"strategy": "s3"}
        )
    call = await last_call(http)
    assert (call["wire"], call["model"], call["strategy"], call["kind"]) == (
        "openai",
        "gpt-4o",
        "s3",
        "label",
    )
    assert call["input_tokens"] == completion.usage.prompt_tokens
    assert call["output_tokens"] == call["tokens_sent"] == completion.usage.completion_tokens
    assert call["image_tokens"] == completion.usage.prompt_tokens_details.image_tokens == 85 + 170
    assert (call["outcome"], call["streamed"], call["pictures"]) == ("ok", False, 1)
    kept = await http.get(f"/ledger/{call['number']}/picture")
    assert (kept.content, kept.headers["content-type"]) == (picture, "image/jpeg")


async def test_a_refused_call_is_in_the_ledger_with_its_reason(
    slow_url: str, http: httpx.AsyncClient
) -> None:
    async with sdk(slow_url) as client:
        with pytest.raises(openai.BadRequestError):
            await client.chat.completions.create(model="m", messages=[])
    call = await last_call(http)
    assert (call["outcome"], call["status"]) == ("rejected", 400)
    assert "empty array" in call["error"]


@pytest.mark.parametrize("path", ["/ledger/999999/picture", "/ledger/1/picture?index=x"])
async def test_a_picture_that_is_not_kept_is_not_found(http: httpx.AsyncClient, path: str) -> None:
    assert (await http.get(path)).status_code == 404


async def test_two_hundred_streams_at_once_are_all_served_in_the_time_of_one(
    slow_url: str, http: httpx.AsyncClient, clock: MovedClock
) -> None:
    started = clock.now()
    answers = await asyncio.gather(*(raw_stream(slow_url) for _ in range(200)))
    seconds = clock.now() - started
    tokens = answers[0].count(b'"delta":{"content"')
    assert all(b"data: [DONE]\n\n" in body for body in answers)
    assert {body.count(b'"delta":{"content"') for body in answers} == {tokens}
    assert (await http.get("/health")).json()["peak_in_flight"] == 200
    assert seconds < FIRST + tokens / RATE


async def raw_stream(url: str) -> bytes:
    """A stream read without a client library, which would be slower than the simulator."""
    host, port = url.removeprefix("http://").split(":")
    body = json.dumps({"model": "m", "messages": HELLO, "stream": True})
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer key\r\n"
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"{head}connection: close\r\ncontent-length: {len(body)}\r\n\r\n{body}".encode())
    answer = await reader.read()  # until the server closes
    writer.close()
    await writer.wait_closed()
    return answer


def test_it_prints_its_url_and_profile_and_stops_cleanly_on_a_signal() -> None:
    with subprocess.Popen(
        [*COMMAND, "--profile", "paper"], stdout=subprocess.PIPE, cwd=REPOSITORY
    ) as process:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        assert httpx.get(f"{ready['url']}/health").json()["profile"] == ready["profile"] == "paper"
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) in (0, -signal.SIGTERM)


def test_it_ends_with_its_parent_even_when_that_is_killed() -> None:
    script = (
        "import subprocess, sys; child = subprocess.Popen([sys.executable, '-m', 'service.simulator', "
        "'--die-with-parent'], stdin=subprocess.PIPE); print(child.pid, flush=True); child.wait()"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, cwd=REPOSITORY) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        json.loads(parent.stdout.readline())  # the child is ready
        parent.kill()
    for _ in range(600):
        if not is_running(child):
            return
        time.sleep(0.05)
    os.kill(child, signal.SIGKILL)
    raise AssertionError("the simulator outlived its parent by 30 seconds")


def is_running(process: int) -> bool:
    """Whether a process runs; one that has ended and waits for its parent does not."""
    try:
        with open(f"/proc/{process}/stat") as status:  # noqa: PTH123 - not a file on a disk
            return status.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_port_in_use_is_said_in_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["--port", str(port)]) == 2
    assert f"cannot listen on 127.0.0.1:{port}" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--ttft=-1", "--tokens-per-second=0", "--speed-up=nan", "--profile=slow"])
def test_a_wrong_option_stops_the_start_and_is_named(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([option])
    assert end.value.code == 2
    assert option.partition("=")[0] in capsys.readouterr().err
