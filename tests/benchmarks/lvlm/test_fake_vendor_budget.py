"""Tests that dollars which stay reserved are reported, and that no fake vendor's behaviour leaves any."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.lvlm.fake_vendors.budget import RecordingMeters, Spending
from service.stores.base import Sum

GOOD = Spending(Counter(finished=200), Counter(), metrics_usd=0.07, drawn=0.07, peak=0.0726, calls=200)


def spent(**other: object) -> Spending:
    return Spending(**{**vars(GOOD), **other})


def test_books_that_are_what_was_drawn_are_right() -> None:
    assert GOOD.problems == []
    assert spent(drawn=0.07 + 1e-12).problems == []


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (spent(drawn=0.08), "0.010000 US dollars stay reserved"),
        (spent(drawn=0.06), "-0.010000 US dollars stay reserved"),
        (spent(endings=Counter(finished=4, budget=196)), "196 requests were refused for the budget"),
        (spent(broken=Counter(TypeError=3)), "3 requests raised TypeError"),
        (spent(peak=0.0), "nothing was tried"),
    ],
)
def test_what_stays_reserved_or_breaks_is_reported(found: Spending, said: str) -> None:
    assert any(said in sentence for sentence in found.problems)


async def test_recording_meters_know_what_is_drawn_and_not_given_back() -> None:
    meters = RecordingMeters()
    draw = Sum("usd:1", 0.5, limit=1.0, ttl=60)
    assert await meters.add([draw])
    assert not await meters.add([Sum("usd:1", 0.6, limit=1.0, ttl=60)])
    await meters.settle([Sum("usd:1", -0.2, limit=1.0, ttl=60)])
    assert (meters.drawn, meters.peak) == (pytest.approx(0.3), 0.5)


def test_nothing_stays_reserved_after_requests_of_every_behaviour(
    fake_vendors: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["budget", "--fakes", str(fake_vendors), "--requests", "5"])
    assert code == 0, capsys.readouterr().out.partition("- cells that are not")[2]


def test_without_fakes_there_is_no_budget_to_try(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["budget", "--fakes", str(tmp_path)]) == 0
    assert "no fake vendors" in capsys.readouterr().err
