"""Tests of events in SQLite beyond the contract: disk, memory, retention, values that are not ours."""

import asyncio
import os
import shutil
import sqlite3
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from controlled_provider import eventually
from moved_clock import MovedClock

from service.stores import sqlite_events, sqlite_writer
from service.stores.base import StoreError
from service.stores.events import Appended, Event, StoreFullError
from service.stores.sqlite_events import EventsLimits, SqliteEvents

NOW = 1_781_526_600
"""The Unix time at which the moved clock begins."""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "events.sqlite"


@pytest.fixture
async def events(file: Path) -> AsyncIterator[SqliteEvents]:
    events = SqliteEvents(file)
    yield events
    await events.close()


async def batches_until_full(events: SqliteEvents, batch: Callable[[int], list[Event]], sentence: str) -> int:
    """Stores numbered batches until one is refused with this sentence; returns how many were stored."""
    for number in range(1_000):
        try:
            await events.append(batch(number))
        except StoreFullError as error:
            if sentence not in str(error):
                raise
            return number
    raise AssertionError("it never was full")


def change(file: Path, *statements: str) -> None:
    """Changes the file as another program would."""
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


def reads_of(events: SqliteEvents, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The users whose lists are read from the file from now on."""
    reads: list[str] = []
    read = events._read

    def counted(connection: sqlite3.Connection, user_id: str) -> Any:
        reads.append(user_id)
        return read(connection, user_id)

    monkeypatch.setattr(events, "_read", counted)
    return reads


async def test_a_list_is_read_again_only_when_its_user_has_changed(
    events: SqliteEvents, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = SqliteEvents(file)
    reads = reads_of(events, monkeypatch)
    await other.append([Event("u", "a", 1), Event("v", "a", 1)])
    for _ in range(3):
        assert (*await events.get("u"), *await events.get("v"), *await events.get("none")) == ("a", "a")
    assert reads == ["u", "v", "none"]
    await other.append([Event("v", "b", 2)])
    assert (*await events.get("u"), *await events.get("v")) == ("a", "a", "b")
    assert reads == ["u", "v", "none", "v"]
    await other.append([Event("none", "c", 2)])
    assert list(await events.get("none")) == ["c"]
    # A worker that has not followed for long drops all lists and not the wrong ones.
    for at in range(200):
        await other.append([Event(f"w{at}", "a", at)])
    assert list(await events.get("u")) == ["a"]
    assert reads[-2:] == ["none", "u"]
    await other.close()


async def test_the_lists_in_memory_stay_within_their_bytes(file: Path) -> None:
    events = SqliteEvents(file, EventsLimits(lists=50_000))
    await events.append([Event(f"u{n % 100}", f"i{n}", n) for n in range(1_000)])
    for _ in range(2):
        for n in range(100):
            assert len(await events.get(f"u{n}")) == 10
    assert 40_000 < events._recent._bytes <= 50_000
    await events.close()


async def test_a_small_disk_is_the_limit_that_the_metrics_and_their_alert_see(
    events: SqliteEvents, monkeypatch: pytest.MonkeyPatch
) -> None:
    await events.append([Event("u", "a", 1)])
    for room, left in ((1_000, 1_000), (-1_000, 0)):
        free = events._reserve() + room
        monkeypatch.setattr(sqlite_events, "free_bytes", lambda _, free=free: free)
        usage = await events.usage()
        assert usage.max_bytes - usage.bytes == left


async def test_the_ids_of_unknown_users_count_among_the_bytes_of_the_lists(file: Path) -> None:
    events = SqliteEvents(file, EventsLimits(lists=50_000))
    for n in range(100):
        await events.get("\N{ARTIST PALETTE}" * 250 + str(n))  # a kilobyte each
    assert 10 < len(events._recent._lists) < 50
    await events.close()


async def test_a_batch_that_breaks_the_transaction_does_not_take_others_along(
    events: SqliteEvents, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = events._append

    def broken(connection: sqlite3.Connection, batch: list[Event]) -> Any:
        written = append(connection, batch)
        if batch[0].item_id == "bad":
            raise sqlite3.OperationalError("as if the disk could not be read")
        return written

    monkeypatch.setattr(events, "_append", broken)
    answers = await asyncio.gather(
        *(events.append([Event("u", item, at)]) for at, item in enumerate(["a", "bad", "b"])),
        return_exceptions=True,
    )
    assert [type(answer) for answer in answers] == [Appended, StoreError, Appended]
    assert list(await events.get("u")) == ["a", "b"]


async def test_too_many_waiting_events_are_refused(
    events: SqliteEvents, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_writer, "WAITING_EVENTS", 3)
    answers = await asyncio.gather(
        *(events.append([Event("u", "a", at)]) for at in range(5)), return_exceptions=True
    )
    assert [type(answer) for answer in answers] == [Appended] * 3 + [StoreError] * 2


async def test_values_that_the_service_did_not_write_are_left_out_and_counted(file: Path) -> None:
    left_out: list[int] = []
    events = SqliteEvents(file, unreadable=left_out.append)
    await events.append([Event("u", item, at) for at, item in enumerate("abcde")])
    change(
        file,
        "UPDATE events SET item_id = CAST(x'ff61' AS TEXT) WHERE item_id = 'b'",
        "UPDATE events SET item_id = x'00' WHERE item_id = 'c'",
        "UPDATE events SET timestamp = 'soon' WHERE item_id = 'd'",
        "UPDATE users SET events = 'many'",
        "INSERT INTO changes (owners) VALUES ('no digests')",
    )
    assert list(await events.get("u")) == ["a", "e"]
    assert left_out == [3]
    assert await events.append([Event("u", "f", 9)]) == Appended(1)
    assert list(await events.get("u")) == ["a", "e", "f"]
    assert list(await events.get("\ud800")) == []
    await events.close()


async def test_a_file_that_is_damaged_while_it_is_used_is_an_error_of_the_store_that_names_the_command(
    events: SqliteEvents, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await events.append([Event("u", "a", 1)])
    change(file, "PRAGMA wal_checkpoint(TRUNCATE)")
    with file.open("r+b") as raw:
        raw.seek(4096)
        raw.write(b"\xff" * (os.fstat(raw.fileno()).st_size - 4096))
    change(file, "PRAGMA user_version = 1")  # so that pages in memory are read again
    with pytest.raises(StoreError):
        await events.get("u")
    with pytest.raises(StoreError):
        await events.append([Event("u", "b", 1)])
    assert (
        "stop the service and put it out of the way with `python -m service events set-aside`" in caplog.text
    )


async def test_events_beyond_the_retention_are_not_read_and_go_by_and_by(
    file: Path, clock: MovedClock
) -> None:
    events = SqliteEvents(file, EventsLimits(retention=100))
    await events.append([Event("u", item, NOW - age) for item, age in (("old", 200), ("a", 90), ("b", 10))])
    await events.append([Event("v", "old", 1), Event("w", "without time", -1)])
    assert list(await events.get("u")) == ["a", "b"]
    assert list(await events.get("v")) == []
    clock.move(20)
    assert list(await events.get("u")) == ["b"]
    await asyncio.sleep(2)
    assert (await events.usage()).users == 2
    await asyncio.sleep(100)
    assert (await events.usage()).users == 1
    assert list(await events.get("w")) == ["without time"]
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("SELECT item_id FROM events").fetchall() == [("without time",)]
    await events.close()


async def test_nothing_of_a_forgotten_user_stays_in_the_files(events: SqliteEvents, file: Path) -> None:
    await events.append([Event("whom to forget", f"item no {at}", at) for at in range(300)])
    await events.append([Event("another", "kept", 1)])
    await events.forget("whom to forget")
    contents = b"".join(path.read_bytes() for path in file.parent.iterdir())
    assert b"kept" in contents
    assert b"whom to forget" not in contents
    assert b"item no" not in contents


@pytest.mark.parametrize("fsync_seconds", [0, 0.001])
async def test_the_log_is_written_to_the_disk(
    file: Path, fsync_seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: set[str] = set()
    written = os.fdatasync

    def fdatasync(descriptor: int) -> None:
        synced.add(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        written(descriptor)

    monkeypatch.setattr(os, "fdatasync", fdatasync)
    events = SqliteEvents(file, fsync_seconds=fsync_seconds)
    await events.append([Event("u", "a", 1)])
    # With 0 it is SQLite that does so, at each commit.
    assert events._writer._connection.execute("PRAGMA synchronous").fetchall() == [
        (2 if not fsync_seconds else 1,)
    ]
    if fsync_seconds:
        await eventually(lambda: bool(synced))
    await events.close()
    assert synced <= {f"{file}-wal"}


async def test_the_log_stays_small_while_events_come(events: SqliteEvents, file: Path) -> None:
    for n in range(40):
        await events.append([Event(f"u{n}-{at}", f"{at}" * 20, at) for at in range(500)])
    sizes = {path.name: path.stat().st_size for path in file.parent.iterdir()}
    assert sizes["events.sqlite-wal"] < 17_000_000


async def test_the_limits_on_bytes_and_on_free_disk_refuse_new_users_alone(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = SqliteEvents(file, EventsLimits(bytes=300_000))
    number = await batches_until_full(
        events, lambda n: [Event(f"{n}-{at}" * 20, "a", at) for at in range(100)], "MSR_EVENTS_MAX_BYTES"
    )
    assert 1 < number < 50
    assert await events.append([Event("0-1" * 20, "b", 1)]) == Appended(1)
    await events.close()
    events = SqliteEvents(file)
    monkeypatch.setattr(sqlite_events, "free_bytes", lambda folder: 1_000_000)
    with pytest.raises(StoreFullError, match="less than 67108864 bytes"):
        await events.append([Event("new", "a", 1)])
    assert await events.append([Event("0-1" * 20, "c", 1)]) == Appended(1)
    await events.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system in memory of 2 MB; a test that asks for it is skipped where none can be mounted."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = shutil.which("mount")
    if mount is None or subprocess.call([mount, "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder]):
        pytest.skip("only root may mount a file system")
    yield folder
    subprocess.run(["umount", folder], check=True)


async def test_a_full_disk_refuses_all_and_loses_nothing_and_goes_on_when_there_is_room(
    small_disk: Path,
) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"\0" * 1_000_000)
    events = SqliteEvents(small_disk / "events.sqlite")
    await events.append([Event("u", "first", 0)])
    stored = await batches_until_full(
        events, lambda n: [Event("u", f"{n}-{at}", n) for at in range(100)], "the disk of the events is full"
    )
    assert stored > 2
    assert await events.trouble() == "the disk of the events is full"
    kept = list(await events.get("u"))
    assert kept[-1] == f"{stored - 1}-99"
    ballast.unlink()
    assert await events.append([Event("u", "after", 10_000)]) == Appended(1, 0, len(kept) == 2_000)
    assert list(await events.get("u"))[-2:] == [f"{stored - 1}-99", "after"]
    await events.close()
    with closing(sqlite3.connect(small_disk / "events.sqlite")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


async def test_a_transaction_that_another_program_never_ends_is_an_error_of_the_store(
    events: SqliteEvents, file: Path
) -> None:
    events._writer._connection.execute("PRAGMA busy_timeout = 10")
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="OperationalError"):
            await events.append([Event("u", "a", 1)])
        assert list(await events.get("u")) == []
        other.execute("ROLLBACK")
    assert await events.append([Event("u", "a", 1)]) == Appended(1)
    assert await events.trouble() is None
