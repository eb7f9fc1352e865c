"""Tests the supervision of workers with stand-ins for them, small programs that speak or are silent."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from collections.abc import Callable, Iterator

import pytest
from controlled_provider import eventually

from service.processes import parent
from service.processes.control_channel import open_channel
from service.processes.errors import StartFailedError
from service.processes.parent import Parent
from service.processes.started_worker import StartedWorker
from service.settings import Settings

SPEAK = """
import pickle, socket, struct, sys, time
from service.processes.control_channel import *
end = socket.socket(fileno=int(sys.argv[1]))
def say(message):
    content = pickle.dumps(message)
    end.sendall(struct.pack("!I", len(content)) + content)
def heard():
    head = end.recv(4, socket.MSG_WAITALL)
    return pickle.loads(end.recv(struct.unpack("!I", head)[0], socket.MSG_WAITALL)) if head else Stop(0)
"""
READY = SPEAK + "say(Ready('demo', 'v1', 'hello'))\nwhile not isinstance(heard(), Stop): pass"
RELOADS = (
    SPEAK
    + """
say(Ready('demo', 'v1', 'hello'))
while not isinstance(message := heard(), Stop):
    if isinstance(message, Reload):
        say(Reloaded(%s))
"""
)
TAKES, BREAKS = RELOADS % "'v2'", RELOADS % "None, 'it is broken'"
ANSWERS = SPEAK + "heard(); say(Alive(None, 1))"
SILENT = SPEAK + "time.sleep(60)"
SILENT_LATER = SPEAK + "say(Ready('demo', 'v1', 'hello')); time.sleep(60)"
REFUSES = SPEAK + "say(Failed('MSR_BUNDLE: broken', 2)); sys.exit(2)"
CRASHES = "raise SystemExit(3)"

Programs = Callable[..., list[str]]


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    """Gives the signals back to pytest, which a process that ends ignores."""
    before = {number: signal.getsignal(number) for number in signal.valid_signals()}
    yield
    for number, handler in before.items():
        if handler is not None and signal.getsignal(number) != handler:
            signal.signal(number, handler)


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch) -> Programs:
    """Sets the programs that are started in the place of workers, each in turn, the last one for ever."""
    waiting: list[str] = []
    started: list[str] = []

    async def start(
        number: int, _listeners: object, _dataset: object, reloads: int, _copies: object = None
    ) -> StartedWorker:
        program = waiting.pop(0) if len(waiting) > 1 else waiting[0]
        started.append(program)
        ours, theirs = socket.socketpair()
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, str(theirs.fileno()), pass_fds=(theirs.fileno(),)
        )
        theirs.close()
        return StartedWorker(number, process, await open_channel(ours), reloads)

    monkeypatch.setattr(parent, "start_worker", start)

    def set_programs(*programs: str) -> list[str]:
        waiting[:] = programs
        return started

    return set_programs


def of(workers: int) -> tuple[Parent, list[str]]:
    said: list[str] = []
    return Parent(Settings(workers=workers, drain_s=0, stop_s=3), [], None, said.append), said


async def stopped(parent: Parent, running: asyncio.Task[int]) -> int:
    parent.stop(announced=True)
    return await running


@pytest.mark.parametrize(
    ("program", "sentence", "status"),
    [(REFUSES, "MSR_BUNDLE: broken", 2), (CRASHES, "no worker could start: the log says why", 1)],
)
async def test_a_start_without_any_worker_fails_with_the_status_that_they_gave(
    program: str, sentence: str, status: int, programs: Programs
) -> None:
    started = programs(program)
    supervisor, said = of(workers=2)
    with pytest.raises(StartFailedError, match=sentence) as caught:
        await supervisor.run()
    assert (caught.value.status, len(started), said) == (status, 2, [])


async def test_a_worker_that_cannot_start_is_tried_again_and_the_healthy_one_goes_on(
    programs: Programs, caplog: pytest.LogCaptureFixture
) -> None:
    started = programs(READY, REFUSES, REFUSES, READY)
    supervisor, said = of(workers=2)
    running = asyncio.create_task(supervisor.run())
    await eventually(lambda: len(started) == 4)
    await eventually(lambda: sum(process.is_ready for process in supervisor._live.values()) == 2)
    assert started.count(READY) == 2
    assert said == ["hello"]
    assert "MSR_BUNDLE: broken" in caplog.text
    assert await stopped(supervisor, running) == 0


async def test_a_worker_that_is_silent_is_killed_and_another_one_started(
    programs: Programs, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(parent, "TICK_SECONDS", 0.02)
    monkeypatch.setattr(parent, "SILENT_TICKS", 5)
    started = programs(SILENT_LATER, READY)
    supervisor, _ = of(workers=1)
    running = asyncio.create_task(supervisor.run())
    await eventually(lambda: len(started) >= 2)
    assert "was silent" in caplog.text
    await stopped(supervisor, running)


async def test_a_worker_that_never_says_anything_is_given_up(
    programs: Programs, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(parent, "TICK_SECONDS", 0.02)
    monkeypatch.setattr(parent, "FIRST_TICKS", 5)
    programs(SILENT)
    supervisor, _ = of(workers=1)
    with pytest.raises(StartFailedError):
        await supervisor.run()
    assert "was silent" in caplog.text


async def test_a_worker_that_hangs_at_the_stop_is_killed_and_the_status_says_so(programs: Programs) -> None:
    programs(SILENT_LATER)
    said: list[str] = []
    supervisor = Parent(Settings(workers=2, drain_s=0, stop_s=0.2), [], None, said.append)
    running = asyncio.create_task(supervisor.run())
    await eventually(lambda: sum(process.is_ready for process in supervisor._live.values()) == 2)
    assert await stopped(supervisor, running) == 1


async def test_a_second_signal_ends_at_once(programs: Programs) -> None:
    programs(SILENT_LATER)
    supervisor = Parent(Settings(workers=2, drain_s=60, stop_s=600), [], None, lambda _: None)
    running = asyncio.create_task(supervisor.run())
    await eventually(lambda: sum(process.is_ready for process in supervisor._live.values()) == 2)
    supervisor.stop(announced=True)
    supervisor.end()
    assert await running == 1


@pytest.mark.parametrize(
    ("programs_of_workers", "line"),
    [
        ((TAKES, TAKES), "the bundle was opened anew: version v2 is served"),
        ((BREAKS, BREAKS), "refused, the one before is served on: it is broken"),
        ((TAKES, BREAKS), "opened anew by 1 workers, then refused: it is broken"),
    ],
)
async def test_a_reload_is_told_in_one_line(
    programs_of_workers: tuple[str, ...], line: str, programs: Programs, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "service")
    programs(*programs_of_workers)
    supervisor, _ = of(workers=2)
    running = asyncio.create_task(supervisor.run())
    await eventually(lambda: sum(process.is_ready for process in supervisor._live.values()) == 2)
    supervisor.reload()
    await eventually(lambda: line in caplog.text)
    assert caplog.text.count("the bundle") == 1
    assert await stopped(supervisor, running) == 0


async def test_a_worker_that_has_ended_answers_nothing_and_is_not_waited_for(programs: Programs) -> None:
    programs(CRASHES)
    process = await parent.start_worker(1, [], None, 0)
    assert [message async for message in process.messages()] == []
    assert await process.ended() == 3
    async with asyncio.timeout(5):
        assert await process.reload() is None
        await process.snapshot(1)


async def test_an_answer_for_which_the_wait_was_just_given_up_breaks_nothing(programs: Programs) -> None:
    programs(ANSWERS)
    process = await parent.start_worker(1, [], None, 0)
    asked = asyncio.create_task(process.snapshot(1))
    async for _ in process.messages():
        # The answer is there, and is handed on in this pass of the event loop, before the task knows.
        asked.cancel()
    await process.ended()
    assert asked.cancelled()
