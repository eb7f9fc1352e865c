"""Runs ``python -m service events``: says what is kept, backs it up, or puts it aside."""

from __future__ import annotations

import argparse
import os
import sqlite3
import sys
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from models.contracts import CATALOGUE, BundleError
from service.catalogue.bundle import open_catalogue
from service.errors import ConfigurationError
from service.settings import read_settings
from service.stores.sqlite_file import connect, is_damage, use_lock
from service.stores.sqlite_statements import usage
from service.wiring.events import events_path


def main(argv: Sequence[str]) -> int:
    """Runs the command and returns its exit status: 1 if it failed, 2 for a wrong argument or setting."""
    parser = argparse.ArgumentParser(
        prog="python -m service events", description="Look after the file of events in MSR_DATA."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    commands.add_parser("status", help="where the file is, and how much it holds")
    backup = commands.add_parser("backup", help="copy it to TARGET, also while the service runs")
    backup.add_argument("target", type=Path, metavar="TARGET", help="file to make; it must not exist")
    commands.add_parser("set-aside", help="rename a file that cannot be used; the service must be stopped")
    arguments = parser.parse_args(argv)
    try:
        settings = read_settings()
        if settings.events_url.get_secret_value():
            raise ConfigurationError("MSR_EVENTS_URL is set: the events are in that Redis")
        path = events_path(settings, open_catalogue(settings.bundle / CATALOGUE).manifest.dataset)
        if not path.exists():
            return _failed(f"there are no events yet: {path}")
        if arguments.command == "set-aside":
            return _set_aside(path)
        return _status(path) if arguments.command == "status" else _backup(path, arguments.target)
    except (ConfigurationError, BundleError) as error:
        print(f"msr-serve: {error}", file=sys.stderr)
        return 2
    except sqlite3.Error as error:
        damaged = ": stop the service and put it out of the way with set-aside" if is_damage(error) else ""
        return _failed(f"{path} cannot be read ({error}){damaged}")
    except OSError as error:
        return _failed(str(error))


def _failed(sentence: str) -> int:
    print(f"msr-serve: {sentence}", file=sys.stderr)
    return 1


def _status(path: Path) -> int:
    with closing(connect(path, reads_only=True)) as connection:
        users, used = usage(connection)
        events = connection.execute("SELECT total(events) FROM users").fetchall()[0][0]
        version = connection.execute("PRAGMA user_version").fetchall()[0][0]
    print(f"{path}\n{int(events)} events of {users} users, {used} bytes, schema {version}")
    return 0


def _backup(path: Path, target: Path) -> int:
    """Writes a copy of one moment; writers go on meanwhile."""
    if target.exists():
        return _failed(f"{target} is there already: name a file that is not")
    partial = target.with_name(f"{target.name}.partial")
    partial.unlink(missing_ok=True)
    os.close(os.open(partial, os.O_CREAT | os.O_EXCL, 0o600))  # SQLite would let others read it
    try:
        # VACUUM INTO reads one moment, where the backup API begins again whenever another process writes; and
        # it leaves out the free pages.
        with closing(connect(path)) as connection:
            connection.execute("VACUUM INTO ?", (str(partial),))
        with closing(sqlite3.connect(partial)) as copy:
            found = copy.execute("PRAGMA quick_check(1)").fetchall()
            users, events = copy.execute("SELECT count(*), total(events) FROM users").fetchall()[0]
        if found != [("ok",)]:
            return _failed(f"the copy is damaged, and so is {path}: {found[0][0]}")
        descriptor = os.open(partial, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        partial.rename(target)
    finally:
        partial.unlink(missing_ok=True)
    print(
        f"{target}: {int(events)} events of {users} users\n"
        f"to bring it back, stop the service, `python -m service events set-aside`, then copy it to {path}"
    )
    return 0


def _set_aside(path: Path) -> int:
    lock = use_lock(path)
    try:
        if not lock.take():
            return _failed(f"a service has {path} open: stop it first")
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        aside = path.with_name(f"{path.stem}.aside-{stamp}.sqlite")
        # The log goes along under the file's new name: with it SQLite can still open what was set aside.
        for ending in ("-shm", "-wal", ""):
            part = Path(f"{path}{ending}")
            if part.exists():
                part.rename(f"{aside}{ending}")
    finally:
        lock.close()
    print(f"{aside}\nholds what was in {path}; the next start makes a new file")
    return 0
