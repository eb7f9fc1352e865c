from __future__ import annotations

from pathlib import Path

import pytest
from lvlm_parts import open_stage
from simulator_process import start_simulator

from benchmarks.__main__ import main
from benchmarks.lab.cases import Cohort
from benchmarks.lab.lvlm_calls import CallBuilder
from service.catalogue.bundle import open_bundle
from service.lvlm.contracts import StageRequest
from service.lvlm.cost.prices import Prices
from service.lvlm.cost.tokens import BYTES_PER_TOKEN
from service.lvlm.providers.openai.chat import OpenAIChat
from service.strategies import STRATEGIES


def cells(page: str) -> dict[str, list[str]]:
    """The table rows of a page by their first cell."""
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines() if "|" in line]
    return {row[0]: row[1:] for row in rows}


def cost(capsys: pytest.CaptureFixture[str], bundle: Path, *options: str) -> str:
    assert main(["cost", "--bundle", str(bundle), "--users", "5", *options]) == 0
    return capsys.readouterr().out


def test_every_strategy_is_priced_for_every_model_of_the_table(
    bundle_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = cost(capsys, bundle_folder)
    for strategy in ("s1", "s3", "s4", "s5"):
        for model in Prices.read().models:
            assert f"{strategy}, {model}" in cells(page)
    assert f"list prices of {Prices.read().as_of}" in page
    assert "All of it is estimated" in page
    assert f"a token for {BYTES_PER_TOKEN:g} bytes of the real prompt" in page


def test_dollars_are_tokens_times_the_list_price(
    bundle_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row = cells(cost(capsys, bundle_folder, "--models", "gpt-4o"))["s3, gpt-4o"]
    tokens_in, tokens_out, dollars = (float(cell) for cell in row[1:4])
    assert row[0] == "85"
    assert dollars == pytest.approx((tokens_in * 2.50 + tokens_out * 10.00) / 1000, abs=0.002)


def test_captions_cost_half_by_batch(bundle_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = cells(cost(capsys, bundle_folder, "--models", "gpt-5.4-mini"))["gpt-5.4-mini"]
    assert float(row[4]) == pytest.approx(float(row[3]) / 2, abs=0.001)


def test_what_a_bundle_lacks_is_left_out_and_said(
    tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = cost(capsys, tiny_bundle, "--models", "gpt-4o")
    assert "has no captions: s4 and s5 are left out" in page
    assert "has no pictures" in page
    assert not {"s4, gpt-4o", "gpt-4o"} & cells(page).keys()
    assert cells(page)["s3, gpt-4o"][0] == "0"


def test_a_model_without_a_price_is_refused(bundle_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cost", "--bundle", str(bundle_folder), "--models", "gpt-99"]) == 2
    assert "no price is known for 'gpt-99'" in capsys.readouterr().err


async def test_what_is_expected_for_a_user_is_what_the_simulator_bills_as_far_as_can_be_known(
    bundle_folder: Path,
) -> None:
    catalogue = open_bundle(bundle_folder).catalogue
    case = next(iter(Cohort(catalogue, 1, seed=1)))
    request = StageRequest(
        STRATEGIES["s3"],
        history=tuple(catalogue.rows[item] for item in case.history),
        pool=tuple(catalogue.rows[item] for item in case.candidates),
        k=5,
        provider="openai",
        model="gpt-4o",
    )
    calls = CallBuilder(catalogue)
    expected = calls.estimate(
        [await calls.ranking(case, request.strategy, "label", request.k)], request.model
    )
    await calls.close()
    with start_simulator() as url:
        provider = OpenAIChat(
            "openai", api_key="k", image_detail=Prices.read().image_detail, base_url=f"{url}/v1"
        )
        async with open_stage(catalogue, [provider], bill_simulated=True) as opened:
            billed = await opened.stage.rerank(request)
    assert billed.outcome == "ok"
    assert expected.image_tokens == billed.bill.usage.image_tokens
    # Only the vendor's own vocabulary counts text exactly; the simulator has a rule of its own.
    assert 0.5 < expected.input_tokens / billed.bill.usage.input_tokens < 1.5
    assert 0.5 < expected.output_tokens / billed.bill.usage.output_tokens < 2
    assert billed.bill.cost_usd is not None
    assert 0.5 < expected.dollars / (1000 * billed.bill.cost_usd) < 1.5
