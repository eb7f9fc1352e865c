"""Tests that a service goes on while the files of its bundle are truncated, overwritten and replaced."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread

import httpx
import pytest
from bundles import write_bundle, write_graph_backbone
from service_process import RunningService, start_service

from service.catalogue.bundle import open_catalogue

pytestmark = pytest.mark.slow

ITEMS, USERS = 2_000, 12
PATHS = ("/recommend", "/recommend?backbone=graph", "/recommend?strategy=s3&cache=off")


def truncate(path: Path) -> None:
    os.truncate(path, 0)


def halve(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def overwrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"\xff" * path.stat().st_size)


def replace(path: Path) -> None:
    new = path.with_name("new")
    new.write_bytes(b"something else")
    new.rename(path)


class Load:
    """Asks for recommendations from several threads until it is told to stop; keeps what was not answered."""

    def __init__(self, url: str, clients: int = 3) -> None:
        self._url, self._over = url, Event()
        self.answers, self.wrong = 0, list[object]()
        self._threads = [Thread(target=self._ask) for _ in range(clients)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        # New connections, so that every worker is asked; histories that touch vectors all over the file.
        while not self._over.is_set():
            row = self.answers * 997 % (ITEMS - 5)
            history = [f"I{at:03d}" for at in range(row, row + 5)]
            path = PATHS[self.answers % len(PATHS)]
            try:
                answer = httpx.post(f"{self._url}{path}", json={"history": history, "k": 5}, timeout=60)
                if answer.status_code != 200:
                    self.wrong.append(answer.text)
            except httpx.HTTPError as error:
                self.wrong.append(error)
            self.answers += 1

    def more(self, answers: int) -> None:
        """Waits for so many more answers."""
        until = self.answers + answers
        wait(lambda: self.answers >= until)


def wait(true: Callable[[], bool], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not become true"
        time.sleep(0.02)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_service_goes_on_whatever_becomes_of_the_files_of_its_bundle(workers: int, tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "bundle", items=ITEMS, users=USERS, enhanced=False)
    write_graph_backbone(bundle, "graph", open_catalogue(bundle / "catalogue").version, ITEMS, USERS)
    files = [*bundle.glob("backbones/*/*.npy"), *bundle.glob("backbones/*/*.onnx")]
    files += [bundle / "catalogue" / name for name in ("items.jsonl", "histories.npz", "popularity.npy")]
    pictures = [bundle / "catalogue" / "images" / f"I00{row}.png" for row in range(4)]
    with start_service(bundle, workers=str(workers)) as service:
        wait(lambda: workers == 1 or service.log.count("is ready\n") == workers)
        before = [service.process.pid, *service.workers]
        assert [picture_status(service, picture) for picture in pictures] == [200] * len(pictures)
        with Load(service.url) as load:
            load.more(20)
            for change in (overwrite, halve, truncate, replace):
                for path in files:
                    change(path)
                load.more(20)
            for change, picture in zip((overwrite, halve, truncate, replace), pictures, strict=True):
                change(picture)
                assert picture_status(service, picture) == 404
            service.process.send_signal(signal.SIGHUP)
            wait(lambda: "the bundle on the disk is refused, the one before is served on" in service.log)
            load.more(20)
        assert load.wrong == []
        assert [service.process.pid, *service.workers] == before
        assert re.findall(r"Traceback|it is started again", service.log) == []


def picture_status(service: RunningService, picture: Path) -> int:
    return httpx.get(f"{service.url}/items/{picture.stem}/image", timeout=30).status_code
