"""Tests the endless provider: it never ends, stops when its client leaves, and broken limits are reported."""

from __future__ import annotations

import asyncio
import json
import socket
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks.__main__ import main
from benchmarks.lab.servers import free_port, running
from benchmarks.lab.side_effects import MEGABYTE
from benchmarks.lvlm.endless.provider import FRAMINGS, GOOD, KINDS
from benchmarks.lvlm.endless.trial import KindResult, NoneLatencies, Trial
from service.catalogue.bundle import open_bundle

PATHS = {"openai": "/v1/chat/completions", "anthropic": "/v1/messages"}
MUCH = 2**19
"""Bytes: more than fit into the buffers of a connection whose end is near."""


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    port = free_port()
    with running("benchmarks.lvlm.endless.provider", [str(port)], {}, port, None):
        yield port


def ask(port: int, path: str, model: str, *, stream: bool) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=30)
    body = json.dumps({"model": model, "stream": stream}).encode()
    connection.sendall(f"POST {path} HTTP/1.1\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)
    return connection


def read(connection: socket.socket, size: int) -> bytes:
    heard = b""
    while len(heard) < size and (more := connection.recv(65_536)):
        heard += more
    return heard


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("wire", PATHS)
@pytest.mark.parametrize("kind", [kind for kind in KINDS if not kind.startswith("compressed")])
def test_every_kind_goes_on_until_its_client_leaves(port: int, kind: str, wire: str, framing: str) -> None:
    with ask(port, PATHS[wire], f"{kind}.{framing}.0", stream=True) as connection:
        assert len(read(connection, MUCH)) >= MUCH
    for _ in range(100):
        if not httpx.get(f"http://127.0.0.1:{port}/", trust_env=False).json()["answering"]:
            return
        time.sleep(0.02)
    raise AssertionError("it still writes to a connection that is gone")


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "plain"])
@pytest.mark.parametrize("wire", PATHS)
@pytest.mark.parametrize("kind", ["compressed", "compressed-error"])
def test_what_is_compressed_inflates_to_much_more_for_ever(
    port: int, kind: str, wire: str, stream: bool
) -> None:
    with ask(port, PATHS[wire], f"{kind}.close.0", stream=stream) as connection:
        head, _, body = read(connection, 65_536).partition(b"\r\n\r\n")
    assert b"content-encoding: gzip" in head
    assert len(zlib.decompressobj(wbits=31).decompress(body)) > 100 * len(body)


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("wire", PATHS)
def test_the_good_one_ends(port: int, wire: str, framing: str) -> None:
    url = f"http://127.0.0.1:{port}{PATHS[wire]}"
    body = {"model": f"{GOOD}.{framing}.0", "stream": False}
    assert "ranking" in httpx.post(url, json=body, trust_env=False).text
    assert "data: " in httpx.post(url, json={**body, "stream": True}, trust_env=False).text


QUICK = NoneLatencies((2.0, 3.0, 2.0))
HELD = KindResult(Counter(fallback_provider=9), -0.1, 10**8, 60 * MEGABYTE, QUICK, QUICK, 0)


def result(**other: Any) -> KindResult:
    return KindResult(**{**vars(HELD), **other})


def test_a_provider_that_is_cut_in_time_breaks_nothing() -> None:
    assert HELD.problems == []


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (result(memory=101 * MEGABYTE), "101 MB above idle"),
        (result(beside=NoneLatencies((13.0, 12.5, 2.0))), "none is 10.5 ms slower"),
        (result(beside=NoneLatencies((2.0, None, 2.0))), "1 of 3 requests of none got no answer"),
        (result(beside=NoneLatencies((None,))), "none is inf ms slower"),
        (result(outcomes=Counter({"500: broken": 2})), "2 requests on the provider did not end"),
        (result(outcomes=Counter()), "nothing was tried"),
        (result(sent=0), "nothing was tried"),
        (result(left=1), "1 calls go on"),
    ],
)
def test_a_broken_limit_is_reported(found: KindResult, said: str) -> None:
    assert any(said in sentence for sentence in found.problems)


@pytest.mark.slow
def test_a_trial_reports_what_was_sent_and_what_none_took(bundle_folder: Path) -> None:
    with ExitStack() as stack:
        trial = Trial(stack, bundle_folder, "stream", open_bundle(bundle_folder).catalogue)
        found = asyncio.run(trial.run([GOOD, "event"], 1.0, lambda: None))
    assert "repaired" in found[GOOD].outcomes
    # The last request has the rest of the second, which a busy machine may cut.
    cut = {"partial", "fallback_deadline"}
    for kind, outcomes in ((GOOD, {"repaired", *cut}), ("event", {"fallback_provider", *cut})):
        assert found[kind].outcomes.keys() <= outcomes
        assert found[kind].sent > 0
        assert found[kind].memory > 0
        assert found[kind].left == 0
        assert len(found[kind].beside.answered) == len(found[kind].beside.milliseconds) > 0


def test_a_kind_that_does_not_exist_is_refused_by_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["endless", "--kinds", "text,silence"]) == 2
    assert "'silence'" in capsys.readouterr().err
