"""Tests what the start says of an open address, and of money without a limit."""

from __future__ import annotations

import pytest

from service.settings import Settings
from service.wiring.checks import exposure_warnings

PAID = {"provider": "openai", "openai_api_key": "sk-s3cr3t"}


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "shop.example"])
def test_an_address_that_others_reach_without_a_key_is_named(host: str) -> None:
    (warning,) = exposure_warnings(Settings(host=host))
    assert warning.startswith(f"every machine that reaches {host} may ask")
    assert "set MSR_API_KEY" in warning
    assert not exposure_warnings(Settings(host=host, api_key="k"))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "localhost", "::1"])
def test_loopback_needs_no_warning(host: str) -> None:
    assert not exposure_warnings(Settings(host=host))


def test_a_provider_that_is_paid_and_has_no_budget_is_named_without_its_key() -> None:
    (warning,) = exposure_warnings(Settings(**PAID))
    assert warning.startswith("calls of openai cost money and nothing limits them")
    assert "s3cr3t" not in warning
    assert not exposure_warnings(Settings(**PAID, budget_usd_per_day=1))
    assert not exposure_warnings(Settings(**PAID, budget_usd_per_hour=1))


def test_a_key_in_stock_counts_though_another_provider_is_the_default() -> None:
    assert len(exposure_warnings(Settings(anthropic_api_key="sk-s3cr3t", host="0.0.0.0"))) == 2
