"""Tests the client of the control plane on a real simulator."""

from __future__ import annotations

import httpx
import pytest

from benchmarks.errors import BenchmarkError
from benchmarks.lab.simulator_control import SimulatorControl, running_simulator


def ask(url: str) -> int:
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]}
    headers = {"authorization": "Bearer rehearsal"}
    return httpx.post(f"{url}/v1/chat/completions", json=body, headers=headers, trust_env=False).status_code


def test_calls_stand_in_the_ledger_until_it_is_cleared() -> None:
    with running_simulator("--profile", "instant") as simulator:
        assert ask(simulator.url) == 200
        (row,) = simulator.ended_calls()
        assert (row["model"], row["outcome"]) == ("gpt-4o", "ok")
        assert simulator.ledger_summary()["calls"] == simulator.peak_in_flight() == 1
        simulator.clear_ledger()
        assert simulator.ledger() == []
        assert simulator.peak_in_flight() == 0


def test_a_script_of_faults_is_played_and_a_wrong_one_is_refused() -> None:
    with running_simulator("--profile", "instant") as simulator:
        simulator.set_faults({"by_model": {"gpt-4o": {"fault": "500"}}})
        assert ask(simulator.url) == 500
        with pytest.raises(BenchmarkError, match=r"refuses PUT .*/faults with 400: .*not a script"):
            simulator.set_faults({"by_model": {"gpt-4o": {"fault": "no such fault"}}})


def test_no_simulator_is_one_sentence() -> None:
    with pytest.raises(BenchmarkError, match=r"does not take GET http://127\.0\.0\.1:9/ledger"):
        SimulatorControl("http://127.0.0.1:9").ledger()
