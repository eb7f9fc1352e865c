"""Invents the shoppers of the demo shop: their preferences, and what they buy one after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

import numpy as np
from numpy.typing import NDArray

from models.data.dataset import Rows
from models.data.demo.products import BRANDS, COLOURS, FEATURES, PATTERNS, Product, pick

SHORTEST = 5
"""Number of purchases of a shopper at least."""

LONGEST = 16
"""Number of purchases of a shopper at most."""

# Factors of a purchase's weight. Brand and feature are in the text alone, colour and pattern in the picture.
LIKED_BRAND = 10.0
LIKED_FEATURE = 3.0
LIKED_COLOUR = 10.0
LIKED_PATTERN = 4.0
GOES_WITH_LAST = 6.0
SAME_KIND_AS_LAST = 0.4
SAME_COLOUR_AS_LAST = 2.0

Weights = NDArray[np.float64]


class Shop:
    """Holds the attributes of all products as columns, to weigh every product at once."""

    def __init__(self, products: Sequence[Product], random: Random) -> None:
        def column(value: Callable[[Product], str]) -> NDArray[np.str_]:
            return np.array([value(product) for product in products])

        self.brand = column(lambda product: product.brand)
        self.feature = column(lambda product: product.feature)
        self.colour = column(lambda product: product.colour)
        self.pattern = column(lambda product: product.pattern)
        self.kind = column(lambda product: product.kind.name)
        self.goes_with = column(lambda product: product.kind.goes_with)
        # A factor of each product, 0.5 to 1.5: of two with equal attributes one may sell three times as
        # often.
        self.appeal = np.array([0.5 + random.random() for _ in products])

    def liked(self, brands: set[str], feature: str, colours: set[str], pattern: str) -> Weights:
        """Weighs every product by preferences: float64 [products], higher is likelier to be bought."""
        weights = self.appeal.copy()
        weights[np.isin(self.brand, list(brands))] *= LIKED_BRAND
        weights[self.feature == feature] *= LIKED_FEATURE
        weights[np.isin(self.colour, list(colours))] *= LIKED_COLOUR
        weights[self.pattern == pattern] *= LIKED_PATTERN
        return weights

    def after(self, last: int) -> Weights:
        """Weighs every product by the last purchase: float64 [products], 1 where it makes no difference."""
        weights = np.ones(len(self.kind))
        weights[self.kind == self.goes_with[last]] *= GOES_WITH_LAST
        weights[self.kind == self.kind[last]] *= SAME_KIND_AS_LAST
        weights[self.colour == self.colour[last]] *= SAME_COLOUR_AS_LAST
        return weights


def make_histories(products: Sequence[Product], n: int, seed: int) -> tuple[Rows, ...]:
    """Makes the item rows that n shoppers bought, oldest first, nothing twice."""
    random = Random(f"shoppers {seed}")
    shop = Shop(products, random)
    # The weights after each product are the same for all shoppers: [products] arrays of [products].
    after = [shop.after(last) for last in range(len(products))]
    return tuple(_history(shop, after, random) for _ in range(n))


def _history(shop: Shop, after: Sequence[Weights], random: Random) -> Rows:
    """Makes the history of one shopper, who likes two brands, a feature, a pattern and two colours.

    One of the colours changes half-way, so that the newest items predict the next one better than the oldest.
    """
    brands, feature, pattern = _some(random, BRANDS, 2), pick(random, FEATURES), pick(random, PATTERNS)
    old, kept, new = _some(random, COLOURS, 3)
    length = SHORTEST + int(random.random() * (LONGEST - SHORTEST + 1))
    early = shop.liked(set(brands), feature, {old, kept}, pattern)
    late = shop.liked(set(brands), feature, {kept, new}, pattern)
    left = np.ones(len(shop.kind))
    bought: list[int] = []
    while len(bought) < length:
        weights = left * (early if len(bought) < length // 2 else late)
        if bought:
            weights *= after[bought[-1]]
        row = _draw(weights, random)
        left[row] = 0  # never bought again
        bought.append(row)
    return np.array(bought, dtype=np.int32)


def _some(random: Random, options: Sequence[str], n: int) -> list[str]:
    """Draws n different options in random order."""
    remaining = list(options)
    return [remaining.pop(int(random.random() * len(remaining))) for _ in range(n)]


def _draw(weights: Weights, random: Random) -> int:
    """Draws a row in proportion to its weight."""
    up_to = np.cumsum(weights)  # one after the other, unlike np.sum: the same rounding everywhere
    return int(np.searchsorted(up_to, random.random() * up_to[-1], side="right"))
