"""Tests the processes of the real service: what happens when one dies, on signals, and with a new bundle."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread

import httpx
import pytest
from bundles import write_bundle
from service_process import RunningService, start_service

NO_SIMULATOR = "http://127.0.0.1:9"


def wait(true: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not become true"
        time.sleep(0.02)


# The tests share two services; the last two end them.


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@dataclass
class Deployment:
    """A running service, and the link to the version of its bundle that it serves.

    Attributes:
        link: what ``MSR_BUNDLE`` names.
        versions: bundles by name: ``first``, ``second`` and ``broken``.
    """

    service: RunningService
    link: Path
    versions: Path

    def switch_to(self, version: str) -> None:
        """Changes the bundle in one step, as a deployment does."""
        switch(self.link, self.versions / version)

    @property
    def items(self) -> set[int]:
        """How many items there are, on new connections, so that every worker is asked."""
        answers = [httpx.get(f"{self.service.url}/health/ready", timeout=30).json() for _ in range(8)]
        return {answer["bundle"]["items"] for answer in answers}


def switch(link: Path, target: Path) -> None:
    new = link.with_name(f"{link.name}.new")
    new.symlink_to(target)
    new.rename(link)


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("versions")
    write_bundle(folder / "first")
    write_bundle(folder / "second", items=40)
    (folder / "broken").mkdir()
    return folder


@pytest.fixture(scope="module")
def alone(versions: Path) -> Iterator[Deployment]:
    """One worker with its simulator."""
    switch(versions / "alone", versions / "first")
    keys = {"OPENAI_API_KEY": "a-key", "OTHER_KEY": "other-key"}
    with start_service(versions / "alone", keys, drain_s="1") as service:
        yield Deployment(service, versions / "alone", versions)


@pytest.fixture(scope="module")
def several(versions: Path) -> Iterator[Deployment]:
    """Two workers."""
    switch(versions / "several", versions / "first")
    with start_service(versions / "several", workers="2", simulator_url=NO_SIMULATOR) as service:
        wait(lambda: service.log.count("is ready\n") == 2)
        yield Deployment(service, versions / "several", versions)


@pytest.fixture(params=["alone", "several"])
def deployment(request: pytest.FixtureRequest) -> Deployment:
    found: Deployment = request.getfixturevalue(request.param)
    found.switch_to("second")
    reload(found)
    return found


def reload(deployment: Deployment) -> None:
    """Sends SIGHUP and waits for the line about it."""

    def lines() -> int:
        return len(re.findall(r"^\w+ +the bundle (?:was|on)", deployment.service.log, re.M))

    before = lines()
    deployment.service.process.send_signal(signal.SIGHUP)
    wait(lambda: lines() == before + 1)


@dataclass
class Load:
    """What a few clients were answered, each with a connection that is kept."""

    statuses: list[object] = field(default_factory=list)


@contextmanager
def load(url: str, clients: int = 4) -> Iterator[Load]:
    """Asks for recommendations all the time until the block ends."""
    stop, made = Event(), Load()

    def ask() -> None:
        with httpx.Client(base_url=url, timeout=30) as http:
            while not stop.is_set():
                try:
                    made.statuses.append(http.post("/recommend", json={"user_id": "u1"}).status_code)
                except httpx.HTTPError as error:
                    made.statuses.append(error)

    threads = [Thread(target=ask) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield made
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def copies_of(worker: int) -> set[str]:
    """Inodes of the shared copies that a worker has in its memory: those of no bundle of before."""
    maps = Path(f"/proc/{worker}/maps").read_text().splitlines()
    return {line.split()[4] for line in maps if "memfd:bundle" in line}


def test_a_new_bundle_is_served_after_sighup_without_a_lost_request(deployment: Deployment) -> None:
    service, workers = deployment.service, deployment.service.workers
    assert deployment.items == {40}
    deployment.switch_to("first")
    with load(service.url) as made:
        wait(lambda: len(made.statuses) > 20)
        reload(deployment)
        before = len(made.statuses)
        wait(lambda: len(made.statuses) > before + 20)
    assert set(made.statuses) == {200}
    assert deployment.items == {48}
    assert service.workers == workers
    wait(lambda: all(len(copies_of(worker)) <= 1 for worker in workers))  # both backbones have equal vectors
    text = httpx.get(f"{service.url}/metrics", timeout=30).text
    assert text.count("msr_bundle_info{") == 2  # one for each backbone, and none of the version before


def test_a_broken_bundle_is_refused_and_the_one_before_served_on(deployment: Deployment) -> None:
    deployment.switch_to("broken")
    reload(deployment)
    assert "the bundle on the disk is refused, the one before is served on" in deployment.service.log
    assert deployment.items == {40}


def test_a_worker_that_dies_comes_back_and_a_broken_bundle_takes_no_healthy_one_along(
    several: Deployment,
) -> None:
    service, (found,) = several.service, several.items
    serving = "first" if found == 48 else "second"
    several.switch_to("broken")
    killed, healthy = service.workers
    os.kill(killed, signal.SIGKILL)
    wait(lambda: "ended (by SIGKILL): it is started again" in service.log)
    assert several.items == {found}
    assert healthy in service.workers
    several.switch_to(serving)
    ready = service.log.count("is ready\n")
    wait(lambda: service.log.count("is ready\n") > ready)
    assert several.items == {found}


def test_a_simulator_that_dies_is_started_again_on_its_port(alone: Deployment) -> None:
    service = alone.service
    (simulator,) = service.children("service.simulator")
    os.kill(simulator, signal.SIGKILL)
    wait(lambda: "the simulator runs again" in service.log)
    answer = httpx.post(f"{service.url}/recommend?strategy=s3", json={"user_id": "u1"}, timeout=30).json()
    assert answer["served"] == "s3"
    assert httpx.get(f"{service.url}/health/ready", timeout=30).json()["degraded"] == []
    assert service.children("service.simulator") != [simulator]


def test_the_simulator_inherits_no_key_and_no_setting(alone: Deployment) -> None:
    (simulator,) = alone.service.children("service.simulator")
    variables = Path(f"/proc/{simulator}/environ").read_text().split("\0")
    names = {variable.partition("=")[0] for variable in variables if variable}
    assert "PATH" in names
    assert not [name for name in names if name.startswith("MSR_") or "KEY" in name]
    assert "a-key" in Path(f"/proc/{alone.service.process.pid}/environ").read_text()


def test_sigquit_drains_and_ends_with_status_0(alone: Deployment) -> None:
    drains_and_ends(alone.service, signal.SIGQUIT)


@pytest.mark.slow
def test_several_workers_drain_and_end_with_status_0(bundle_folder: Path) -> None:
    with start_service(bundle_folder, workers="2", simulator_url=NO_SIMULATOR, drain_s="1") as service:
        drains_and_ends(service, signal.SIGTERM)


def drains_and_ends(service: RunningService, number: signal.Signals) -> None:
    kept = httpx.Client(base_url=service.url, timeout=30)
    assert "connection" not in kept.get("/health/ready").headers
    service.process.send_signal(number)
    wait(lambda: httpx.get(f"{service.url}/health/ready", timeout=30).status_code == 503)
    # On a connection of before and on a new one, everything is still answered, for the last time.
    for answer in (kept.get("/items"), httpx.get(f"{service.url}/items", timeout=30)):
        assert (answer.status_code, answer.headers["connection"]) == (200, "close")
    assert service.process.wait(30) == 0
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{service.url}/health/ready")
    kept.close()


def test_workers_end_with_a_parent_that_is_killed(several: Deployment) -> None:
    service, workers = several.service, several.service.workers
    assert len(workers) == 2
    service.process.kill()
    service.process.wait()
    wait(lambda: not any(map(is_running, workers)))
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{service.url}/health/ready")
