"""Cassettes play recorded attempts again, the same events at the same pace, and keep nothing secret."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from lvlm_parts import SCRIPTS, connect
from moved_clock import MovedClock
from scripted_server import Reply, Step, scripted_server

from service.errors import ConfigurationError
from service.lvlm.cost.prices import Prices
from service.lvlm.providers.anthropic.messages import AnthropicMessages
from service.lvlm.providers.base import (
    Call,
    Event,
    FailureKind,
    Image,
    Prompt,
    Provider,
    ProviderError,
    Text,
    TextDelta,
)
from service.lvlm.providers.cassettes import Cassette, CassetteWriter, Player, Recorder, request_hash
from service.lvlm.providers.openai.chat import OpenAIChat

pytestmark = pytest.mark.usefixtures("clock")

KEY, TITLE = "sk-very-s3cr3t", "A recognisable blue mug"
WIRES = ("openai", "anthropic")
CALL = Call(Prompt("Rank.", (Image(b"\xff\xd8", "image/jpeg", 1, 1), Text(TITLE)), None, "v"), "gpt-4o", 50)


async def listen(provider: Provider, call: Call = CALL, seconds: float = 5) -> tuple[list[Event], str]:
    """The events of an attempt, and how it ended: ``end``, ``cut`` or the failure."""
    received: list[Event] = []
    try:
        async with asyncio.timeout(seconds), aclosing(provider.stream(call)) as events:  # type: ignore[type-var]
            async for event in events:
                received.append(event)
    except TimeoutError:
        return received, "cut"
    except ProviderError as error:
        return received, f"{error.kind} {error} {error.retry_after}"
    return received, "end"


async def record(
    folder: Path, wire: str, reply: Reply, call: Call = CALL, seconds: float = 5
) -> tuple[list[Event], str]:
    async with scripted_server(reply) as server:
        recorder = Recorder(connect(wire, server.url), CassetteWriter(folder))
        received = await listen(recorder, call, seconds)
        await recorder.close()
    return received


def contents(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in folder.iterdir()]


def cases() -> list[tuple[str, str, list[Step] | None]]:
    return [
        (wire, name, steps)
        for wire in WIRES
        for name, steps in (
            ("good", SCRIPTS[wire].stream(b'{"ran', 0.05, b'king": ["A"]}')),
            ("truncated", SCRIPTS[wire].stream(b'{"ran', reason=None)),
            ("refused", SCRIPTS[wire].refusal()),
            ("rate limited", None),
        )
    ]


@pytest.mark.parametrize(("wire", "name", "steps"), cases(), ids=lambda value: str(value)[:12])
async def test_a_recorded_attempt_is_played_event_by_event(
    tmp_path: Path, wire: str, name: str, steps: list[Step] | None
) -> None:
    reply = Reply(steps) if steps else SCRIPTS[wire].error(429, "rate_limit_error", retry_after="3")
    recorded = await record(tmp_path, wire, reply)
    assert await listen(Player(wire, Cassette.read(tmp_path))) == recorded


async def test_an_attempt_that_was_cut_stops_at_the_same_place_and_hangs(tmp_path: Path) -> None:
    steps = SCRIPTS["openai"].stream(b'{"ranking": ["A"', 30.0, b"]}")
    recorded, ending = await record(tmp_path, "openai", Reply(steps), seconds=0.3)
    played = await listen(Player("openai", Cassette.read(tmp_path)), seconds=0.3)
    assert played == (recorded, ending)
    assert ending == "cut"
    assert TextDelta('{"ranking": ["A"') in recorded


async def test_it_is_played_at_the_pace_of_the_recording(tmp_path: Path, clock: MovedClock) -> None:
    steps = SCRIPTS["openai"].stream(b'{"ranking"', 0.4, b': ["A"]}')
    await record(tmp_path, "openai", Reply(steps))
    cassette = Cassette.read(tmp_path)
    times = []
    for speed in (1.0, 100.0):
        began = clock.now()
        await listen(Player("openai", cassette, speed))
        times.append(clock.now() - began)
    assert times == pytest.approx([0.4, 0.004])


async def test_several_recordings_of_one_request_are_played_in_turn(tmp_path: Path) -> None:
    for text in (b"one", b"two"):
        await record(tmp_path, "openai", Reply(SCRIPTS["openai"].stream(text)))
    player = Player("openai", Cassette.read(tmp_path))
    received = [(await listen(player))[0] for _ in range(4)]
    texts = [event.text for events in received for event in events if isinstance(event, TextDelta)]
    assert texts == ["one", "two", "one", "two"]


@pytest.mark.parametrize(
    "other",
    [
        replace(CALL, model="gpt-4o-mini"),
        replace(CALL, stream=False),
        replace(CALL, max_output_tokens=51),
        replace(CALL, prompt=replace(CALL.prompt, parts=CALL.prompt.parts[:1])),
        replace(CALL, prompt=replace(CALL.prompt, answer_schema={})),
        replace(CALL, prompt=replace(CALL.prompt, system="Rank well.")),
        replace(CALL, prompt=replace(CALL.prompt, parts=(Image(b"x", "image/jpeg", 1, 1), Text(TITLE)))),
    ],
)
async def test_another_request_is_not_on_the_cassette(tmp_path: Path, other: Call) -> None:
    await record(tmp_path, "openai", Reply(SCRIPTS["openai"].stream(b"x")))
    _, ending = await listen(Player("openai", Cassette.read(tmp_path)), other)
    assert ending.startswith(FailureKind.REQUEST)
    assert "record it first" in ending


def test_the_context_of_a_call_does_not_change_its_hash() -> None:
    assert request_hash("p", CALL) == request_hash("p", replace(CALL, context={"strategy": "s3"}))
    assert request_hash("p", CALL) != request_hash("q", CALL)


@pytest.mark.parametrize("wire", WIRES)
async def test_neither_keys_nor_prompts_nor_vendors_prose_are_kept(tmp_path: Path, wire: str) -> None:
    replies = [Reply(SCRIPTS[wire].stream(b"ok")), SCRIPTS[wire].error(401, "authentication_error")]
    for reply in replies:
        async with scripted_server(reply) as server:
            provider: Provider
            if wire == "openai":
                provider = OpenAIChat(
                    wire, api_key=KEY, image_detail=Prices.read().image_detail, base_url=f"{server.url}/v1"
                )
            else:
                provider = AnthropicMessages(wire, api_key=KEY, base_url=server.url)
            recorder = Recorder(provider, CassetteWriter(tmp_path))
            await listen(recorder)
            await recorder.close()
            assert KEY in str(server.requests[0].headers)
    kept = b"".join(contents(tmp_path))
    for secret in (KEY, TITLE, "sk-s3cr3t", "Blue mug", server.url):
        assert secret.encode() not in kept


def test_a_torn_last_line_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    whole = '{"cassette":1}\n{"request":"a","events":[]}\n'
    (tmp_path / "c.jsonl").write_text(whole + '{"request":"b","ev')
    cassette = Cassette.read(tmp_path)
    assert cassette.next("a") == []
    assert cassette.next("b") is None
    assert "in the middle of a recording" in caplog.text


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "holds no cassette"),
        ('{"cassette":2}\n', "record it again"),
        ("hello\n", "line 1 is damaged"),
    ],
)
def test_a_folder_that_is_no_cassette_is_refused(tmp_path: Path, content: str | None, sentence: str) -> None:
    if content is not None:
        (tmp_path / "c.jsonl").write_text(content)
    with pytest.raises(ConfigurationError, match=sentence):
        Cassette.read(tmp_path)


class Full:
    """A file on a disk that is full."""

    def write(self, text: str) -> int:
        raise OSError(28, "No space left on device")

    def close(self) -> None:
        pass


class Endless:
    """A provider that just answers."""

    name = "endless"

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts = texts

    async def stream(self, call: Call) -> AsyncIterator[Event]:
        for text in self._texts:
            yield TextDelta(text)

    async def close(self) -> None:
        pass


async def test_a_full_disk_costs_the_recording_and_not_the_answer(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = CassetteWriter(tmp_path)
    with suppress(AttributeError):
        writer._file.close()
    monkeypatch.setattr(writer, "_file", Full())
    recorder = Recorder(Endless(["a", "b"]), writer)
    for _ in range(3):
        assert await listen(recorder) == ([TextDelta("a"), TextDelta("b")], "end")
    assert caplog.text.count("no longer recorded") == 1


async def test_every_line_is_json_with_offsets(tmp_path: Path) -> None:
    await record(tmp_path, "anthropic", Reply(SCRIPTS["anthropic"].stream(b"a", b"b")))
    (content,) = contents(tmp_path)
    header, attempt = (json.loads(line) for line in content.splitlines())
    assert header == {"cassette": 1}
    offsets = [event["at"] for event in attempt["events"]]
    assert offsets == sorted(offsets)
    assert len(attempt["request"]) == 64
