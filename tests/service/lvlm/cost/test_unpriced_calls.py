"""A budget cannot count calls without a price: such models are not called, unless a setting allows it."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest
from bundles import write_bundle
from controlled_provider import ControlledProvider, says
from lvlm_parts import SCRIPTS, open_gateway
from scripted_server import scripted_server_thread
from service_process import start_service
from simulator_process import start_simulator
from starlette.testclient import TestClient

from service.captioning import command as enhance
from service.lvlm.bill import Bill
from service.lvlm.cost.budgets_and_quotas import Budget, Quota, Reservation
from service.lvlm.provider_attempt import Ending
from service.lvlm.providers.base import Call, Prompt, Text, Usage
from service.settings import Settings
from service.stores.memory import MemoryMeters
from service.wiring.application import create_app
from service.wiring.checks import unpriced

UNPRICED = Bill(Usage(100, 10), None, estimated=True)
CALL = Call(Prompt("Rank.", (Text("data"),), None, "1"), "no-such-model", 100)


def quota(budget: Budget | None, *, free: tuple[str, ...] = (), unpriced: bool = False) -> Quota:
    meters = MemoryMeters()
    return Quota(meters, meters, {}, budget, free_providers=free, unpriced=unpriced)


@pytest.mark.parametrize("budget", [Budget(usd_per_hour=1.0), Budget(usd_per_day=1.0)], ids=["hour", "day"])
async def test_a_call_without_a_price_gets_no_reservation_while_a_budget_is_set(budget: Budget) -> None:
    assert await quota(budget).reserve("vllm", "qwen", UNPRICED, 0.0) is Ending.BUDGET
    assert isinstance(await quota(budget).reserve("vllm", "qwen", Bill(cost_usd=0.1), 0.0), Reservation)


@pytest.mark.parametrize(
    "open_one",
    [
        quota(None),
        quota(Budget(usd_per_day=1.0), unpriced=True),
        quota(Budget(usd_per_day=1.0), free=("vllm",)),
    ],
    ids=["no budget", "let be", "free"],
)
async def test_a_call_without_a_price_gets_a_reservation_otherwise(open_one: Quota) -> None:
    assert isinstance(await open_one.reserve("vllm", "qwen", UNPRICED, 0.0), Reservation)


async def test_a_refused_model_is_not_called_and_the_budget_is_the_reason() -> None:
    provider = ControlledProvider(says("abc"))
    completion = await open_gateway([provider], budget=Budget(usd_per_day=1.0)).call("fake", CALL, 5)
    assert completion.ending is Ending.BUDGET
    assert provider.calls == []


def vllm(url: str = "http://gpu/v1", *models: str) -> str:
    return json.dumps({"vllm": {"base_url": url, "models": models or ("no-such-model",)}})


def test_the_start_names_every_model_that_a_budget_cannot_count() -> None:
    compatible = json.loads(vllm("http://gpu", "no-such-model", "gpt-4o"))
    settings = Settings(compatible=compatible, budget_usd_per_day=1.0)
    assert unpriced(settings) == ["vllm/no-such-model"]
    assert unpriced(Settings(compatible=compatible)) == []


def test_with_a_budget_the_candidate_order_answers_for_a_model_without_a_price(bundle_folder: Path) -> None:
    reply = SCRIPTS["openai"].plain(json.dumps({"ranking": ["B", "A"]}))
    with scripted_server_thread(reply) as server:
        settings = {"provider": "vllm", "compatible": vllm(server.url), "budget_usd_per_day": "1"}
        settings["lvlm_stream"] = "false"
        body = {"user_id": "u1", "k": 2}
        with start_service(bundle_folder, **settings) as service:
            answer = httpx.post(f"{service.url}/recommend?strategy=s3", json=body).json()
            assert answer["outcome"] == "fallback_budget"
            assert server.requests == []
            refused = "not called while a budget is set (MSR_UNPRICED_CALLS=allow calls it)"
            assert f"no price is known for the model no-such-model: it is {refused}" in answer["warnings"]
            assert f"no price is known for vllm/no-such-model: {refused}" in service.log
        with start_service(bundle_folder, unpriced_calls="allow", **settings) as service:
            answer = httpx.post(f"{service.url}/recommend?strategy=s3", json=body).json()
            assert answer["outcome"] == "ok"
            assert answer["lvlm"]["cost_usd"] is None
            sentence = "no price is known for the model no-such-model: its cost is not counted"
            assert sentence in answer["warnings"]
            assert "no price is known for vllm/no-such-model: called, and not counted" in service.log


def test_simulated_models_stay_free_also_in_a_rehearsal(bundle_folder: Path) -> None:
    with start_simulator() as url:
        settings = Settings(
            bundle=bundle_folder, simulator_url=url, budget_usd_per_day=1.0, simulator_bills=True
        )
        with TestClient(create_app(settings), "http://127.0.0.1") as client:
            answer = client.post("/recommend?strategy=s3", json={"user_id": "u1"}).json()
    assert answer["outcome"] == "ok"
    assert unpriced(settings) == []


def test_captioning_refuses_a_model_that_the_budget_cannot_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    bundle = write_bundle(tmp_path / "blocks")
    settings = {"MSR_PROVIDER": "vllm", "MSR_COMPATIBLE": vllm(), "MSR_BUDGET_USD_PER_DAY": "1"}
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    assert enhance._work(enhance._parser().parse_args(["--bundle", str(bundle)])) == 2
    told = capfd.readouterr().err
    assert "MSR_BUDGET_USD_… cannot be kept: no price is known for the model no-such-model" in told
    assert "MSR_UNPRICED_CALLS=allow" in told
