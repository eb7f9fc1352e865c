from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lvlm_parts import open_stage
from simulator_process import start_simulator

from benchmarks.__main__ import main
from benchmarks.errors import BenchmarkError
from benchmarks.lab.cases import Cohort
from benchmarks.lab.rounds import Limit
from benchmarks.lvlm import stage_time
from benchmarks.lvlm.stage_time import BareSdk, EmptiedCache, StageRound, limit_checks, one_round
from service.catalogue.bundle import open_bundle
from service.lvlm.cost.prices import Prices
from service.settings import Settings


async def test_every_answer_is_looked_up_missed_and_written_while_the_clock_runs(bundle_folder: Path) -> None:
    bundle, cache = open_bundle(bundle_folder), EmptiedCache(10**6)
    cases = list(Cohort(bundle.catalogue, 4, seed=1))
    with start_simulator() as url:
        settings = Settings(simulator_url=url)
        provider = settings.providers["simulator"].open(Prices.read().image_detail)
        bare = BareSdk("simulator", settings)
        async with open_stage(bundle.catalogue, [provider], cache=cache) as opened:

            async def measure() -> StageRound:
                return await one_round(opened.stage.stage, opened.metrics, bare, bundle, cases, "s3")

            for rounds in (1, 2):
                assert (await measure()).own > 0
                for result in ("miss", "stored"):
                    count = opened.count("msr_cache_events_total", cache="answers", result=result)
                    assert count == rounds * len(cases)
                cache.empty()
            await measure()
            with pytest.raises(BenchmarkError, match="not missed in the cache"):
                await measure()
        await bare.close()


def test_the_worst_strategy_and_wire_are_held_to_the_limits() -> None:
    quick, slow = StageRound(0.001, 0.010, 0.010), StageRound(0.006, 0.013, 0.010)
    found = {("s3", "simulator"): [quick, quick, slow], ("s5", "simulator"): [quick, slow, slow]}
    assert [limit.broken_by(ratio) for limit, ratio in limit_checks(found)] == [True, True]
    found["s5", "simulator"] = [quick, quick, slow]
    assert [limit.broken_by(ratio) for limit, ratio in limit_checks(found)] == [False, False]


def test_a_broken_limit_is_the_exit_code(
    bundle_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ["--bundle", str(bundle_folder), "--users", "2", "--rounds", "1", "--strategies", "s3"]
    found = stage_time._measure
    measured: list[Any] = []

    async def measure_once(*arguments: Any) -> Any:
        """What was measured is held to other limits the second time."""
        if not measured:
            measured.append(await found(*arguments))
        return measured[0]

    monkeypatch.setattr(stage_time, "_measure", measure_once)
    monkeypatch.setattr(stage_time, "OWN", Limit("own", most=0))
    assert main(["stage", *options]) == 1
    assert "own at most 0: " in capsys.readouterr().out
    monkeypatch.setattr(stage_time, "OWN", Limit("own", most=10**6))
    monkeypatch.setattr(stage_time, "CALL", Limit("call", most=10**6))
    assert main(["stage", *options]) == 0
