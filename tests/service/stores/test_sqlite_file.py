"""Tests of the events' file itself: its name, its versions, what is refused, and the commands on it."""

import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest

from service.__main__ import main
from service.errors import ConfigurationError
from service.stores.events import Event
from service.stores.sqlite_events import SqliteEvents
from service.stores.sqlite_file import MIGRATIONS, events_file, prepare

VERSION_2 = ("ALTER TABLE users ADD COLUMN seen INTEGER", "UPDATE users SET seen = events")
SET_ASIDE = "`python -m service events set-aside`"


async def stored(file: Path, *events: Event) -> None:
    store = SqliteEvents(file)
    await store.append(events)
    await store.close()


def read(file: Path, query: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(file)) as connection:
        return connection.execute(query).fetchall()


def test_data_sets_have_files_of_their_own_whatever_they_are_called(tmp_path: Path) -> None:
    names = ["Beauty", "beauty", "a/b", "../x", "", "ü" * 300]
    files = [events_file(tmp_path, name) for name in names]
    assert len(set(files)) == len(names)
    for file in files:
        prepare(file)
        assert file.parent == tmp_path
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


async def test_a_file_moves_to_the_next_version_and_keeps_its_events(tmp_path: Path) -> None:
    file = tmp_path / "events.sqlite"
    await stored(file, Event("u", "a", 1), Event("u", "b", 2))
    prepare(file, migrations=[*MIGRATIONS, VERSION_2])
    assert read(file, "PRAGMA user_version") == [(2,)]
    assert read(file, "SELECT name, events, seen FROM users") == [("u", 2, 2)]
    prepare(file, migrations=[*MIGRATIONS, VERSION_2])
    with pytest.raises(ConfigurationError, match=r"by a newer version .* \(schema 2, this one knows 1\)"):
        SqliteEvents(file)


async def test_a_step_that_fails_leaves_the_version_before(tmp_path: Path) -> None:
    file = tmp_path / "events.sqlite"
    await stored(file, Event("u", "a", 1))
    with pytest.raises(ConfigurationError):
        prepare(file, migrations=[*MIGRATIONS, (*VERSION_2, "INSERT INTO nowhere VALUES (1)")])
    assert read(file, "PRAGMA user_version") == [(1,)]
    assert len(read(file, "SELECT * FROM users")[0]) == 4


async def test_a_file_that_cannot_be_used_is_refused_with_what_to_do(tmp_path: Path) -> None:
    text, foreign, folder = tmp_path / "text.sqlite", tmp_path / "foreign.sqlite", tmp_path / "folder.sqlite"
    text.write_text("this is no database, and long enough to have a header of one hundred bytes" * 3)
    with closing(sqlite3.connect(foreign)) as connection:
        connection.execute("CREATE TABLE mine (x)")
    folder.mkdir()
    for file, sentence in (
        (text, f"is damaged (file is not a database): put it out of the way with {SET_ASIDE}"),
        (foreign, f"is not a store of events: put it out of the way with {SET_ASIDE}"),
        (folder, "cannot be used (unable to open database file): the folder must be writable"),
        (tmp_path / "none" / "x.sqlite", "cannot be used (No such file or directory)"),
    ):
        with pytest.raises(ConfigurationError) as caught:
            prepare(file)
        assert str(caught.value).startswith(f"MSR_DATA: {file} {sentence}")
    assert read(foreign, "SELECT * FROM mine") == []


async def test_damaged_pages_are_found_at_the_start(tmp_path: Path) -> None:
    file = tmp_path / "events.sqlite"
    await stored(file, *(Event(f"u{n}", f"item{n}", n) for n in range(3_000)))
    with file.open("r+b") as raw:
        raw.seek(file.stat().st_size // 2)
        raw.write(b"\xff" * 9_000)
    with pytest.raises(ConfigurationError, match=r"is damaged .*set-aside"):
        prepare(file, check=True)


@pytest.fixture
def file(bundle_folder: Path, data_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that the commands look for, not yet made."""
    monkeypatch.setenv("MSR_BUNDLE", str(bundle_folder))
    folder = data_folder / "events"
    folder.mkdir(parents=True)
    return events_file(folder, "blocks")


async def test_a_backup_that_is_made_while_events_come_is_whole_and_can_take_the_file_s_place(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    running, target = SqliteEvents(file), tmp_path / "backup.sqlite"
    await running.append([Event("u", "a", 1), Event("v", "b", 1)])
    assert main(["events", "status"]) == 0
    assert "2 events of 2 users" in capsys.readouterr().out
    assert main(["events", "backup", str(target)]) == 0
    assert f"{target}: 2 events of 2 users" in capsys.readouterr().out
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert main(["events", "backup", str(target)]) == 1
    assert "is there already" in capsys.readouterr().err
    await running.append([Event("u", "later", 2)])
    assert main(["events", "set-aside"]) == 1
    assert "stop it first" in capsys.readouterr().err
    await running.close()
    assert main(["events", "set-aside"]) == 0
    aside = Path(capsys.readouterr().out.splitlines()[0])
    assert read(aside, "SELECT count(*) FROM events") == [(3,)]
    target.rename(file)
    again = SqliteEvents(file)
    assert list(await again.get("u")) == ["a"]
    await again.close()


def test_the_commands_say_what_is_wrong(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["events", "status"]) == 1
    assert "there are no events yet" in capsys.readouterr().err
    file.write_text("x" * 1_000)
    for command in (["status"], ["backup", str(file.with_name("copy"))]):
        assert main(["events", *command]) == 1
        assert "put it out of the way with set-aside" in capsys.readouterr().err
    assert [path.name for path in file.parent.iterdir()] == [file.name]
    assert main(["events", "set-aside"]) == 0
    assert not file.exists()
    monkeypatch.setenv("MSR_EVENTS_URL", "redis://127.0.0.1:1")
    assert main(["events", "status"]) == 2
    assert "MSR_EVENTS_URL is set" in capsys.readouterr().err
