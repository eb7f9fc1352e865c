"""Tests the simulator that the service starts beside itself."""

import os
import signal

import pytest
from controlled_provider import eventually

from service.errors import ConfigurationError
from service.processes import simulator
from service.processes.simulator import SimulatorProcess


async def test_each_end_and_start_of_the_simulator_is_told_once_and_its_address_stays() -> None:
    changes: list[bool] = []
    process = SimulatorProcess("instant")
    process.on_change = changes.append
    url = process.url
    os.kill(process._process.pid, signal.SIGKILL)
    await eventually(lambda: changes == [False, True])
    assert process.url == url
    process.stop()
    assert process._process.poll() is not None
    assert changes == [False, True]


def test_a_simulator_that_does_not_start_is_an_error_that_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulator, "START_SECONDS", 0)
    with pytest.raises(ConfigurationError, match="the simulator did not start"):
        SimulatorProcess("instant")
