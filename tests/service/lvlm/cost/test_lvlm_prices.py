"""The price table and the estimates of tokens of texts and pictures."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest

from service.lvlm.cost.prices import TABLE, Prices
from service.lvlm.cost.tokens import estimate_images, estimate_input, estimate_text
from service.lvlm.providers.base import Image, Prompt, Text, Usage

TODAY = datetime.date(2026, 11, 23)


@pytest.fixture(scope="module")
def prices() -> Prices:
    return Prices.read()


def test_a_million_tokens_cost_what_the_table_says(prices: Prices) -> None:
    assert prices.cost("gpt-4o", Usage(1_000_000, 0)) == pytest.approx(2.50)
    assert prices.cost("gpt-4o", Usage(0, 1_000_000)) == pytest.approx(10.00)


def test_cached_and_cache_writing_tokens_are_part_of_the_input(prices: Prices) -> None:
    usage = Usage(input_tokens=1000, output_tokens=0, cached_input_tokens=600, cache_write_tokens=300)
    assert prices.cost("claude-haiku-4-5", usage) == pytest.approx((100 * 1.0 + 600 * 0.1 + 300 * 1.25) / 1e6)


def test_a_snapshot_costs_what_its_model_costs(prices: Prices) -> None:
    usage = Usage(500, 50)
    assert prices.cost("gpt-4o-2024-08-06", usage) == prices.cost("gpt-4o", usage)


def test_an_unknown_model_has_no_cost_and_a_warning(prices: Prices) -> None:
    assert prices.cost("gpt-4o-turbo-ultra", Usage(1, 1)) is None
    assert "no price is known" in str(prices.warning("gpt-4o-turbo-ultra", TODAY))


def test_a_model_is_warned_about_after_its_last_day(prices: Prices) -> None:
    assert prices.warning("gpt-4o", datetime.date(2027, 1, 14)) is None
    assert "2027-01-14" in str(prices.warning("gpt-4o", datetime.date(2027, 1, 15)))


def test_the_table_is_dated(prices: Prices) -> None:
    assert isinstance(prices.as_of, datetime.date)


@pytest.mark.parametrize(
    "damage", ["", "as_of = 1", "[images]\nx = {}", TABLE.read_text().replace("tile_base", "tiles")]
)
def test_a_damaged_table_names_its_file(tmp_path: Path, damage: str) -> None:
    table = tmp_path / "prices.toml"
    table.write_text(damage)
    with pytest.raises(ValueError, match=r"prices\.toml"):
        Prices.read(table)


@pytest.mark.parametrize(
    ("model", "width", "height", "tokens"),
    [
        ("gpt-4o", 512, 384, 85),  # a grid of ten, at low detail
        ("gpt-4o", 3000, 300, 85),  # the paper's strip, the same price for a sixth of the pixels of an item
        ("gpt-4o-mini", 512, 384, 2833),
        ("gpt-5.4-mini", 512, 512, 308),  # published counts of real calls
        ("gpt-5.4-mini", 1024, 1024, 1229),
        ("gpt-5.4-mini", 512, 384, 231),
        ("claude-haiku-4-5", 256, 256, 100),
        ("claude-haiku-4-5", 512, 512, 361),
        ("claude-haiku-4-5", 1024, 1024, 1369),
        ("claude-haiku-4-5", 512, 384, 266),
        ("claude-haiku-4-5", 1, 1, 1),
    ],
)
def test_pictures_cost_what_vendors_publish(
    prices: Prices, model: str, width: int, height: int, tokens: int
) -> None:
    assert prices.images(model).tokens(width, height) == tokens


def test_a_huge_picture_is_shrunk_before_it_is_billed(prices: Prices) -> None:
    assert prices.images("claude-haiku-4-5").tokens(8000, 8000) <= 1568
    assert prices.images("gpt-5.4-mini").tokens(8000, 8000) <= 2500 * 1.2


def test_tile_models_are_asked_for_low_detail_and_others_for_high(prices: Prices) -> None:
    assert prices.images("gpt-4o").detail == "low"
    assert prices.images("gpt-5.4-mini").detail == "high"
    assert prices.images("unheard-of").detail == "high"


def test_an_estimate_counts_text_and_pictures(prices: Prices) -> None:
    prompt = Prompt("x" * 40, (Image(b"", "image/jpeg", 512, 384), Text("y" * 400)), None, "v")
    rule = prices.images("gpt-4o")
    assert estimate_images(prompt, rule) == 85
    assert estimate_input(prompt, rule) == 11 + 109 + 85
    assert estimate_text("") == 0
