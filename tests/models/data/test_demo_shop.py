from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.data import demo
from models.data.dataset import Dataset
from models.data.demo.pictures import COLOURS, DRAW, picture
from models.data.demo.products import KINDS, PATTERNS, Product, make_products
from models.data.demo.shoppers import LONGEST, SHORTEST
from models.evaluation import (
    DrawnCandidates,
    Example,
    candidate_matrix,
    evaluate,
    leave_one_out,
    ndcg_at,
)

PIXELS = "7c2176ca1c9b4d36"
HISTORIES = "dc7f39a8be86ab8d"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return demo.generate(tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="module")
def products() -> tuple[Product, ...]:
    return make_products(demo.PRODUCTS, demo.SEED)


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def test_the_same_seed_gives_the_same_bytes_in_another_process(tmp_path: Path) -> None:
    program = (
        "import sys, hashlib, pathlib\n"
        "from models.data import demo\n"
        "folder = pathlib.Path(sys.argv[1]); folder.mkdir()\n"
        "shop = demo.generate(folder, products=36, shoppers=40)\n"
        "print(shop.items, shop.users, [h.tolist() for h in shop.histories])\n"
        "print([hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.iterdir())])\n"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", program, str(tmp_path / seed)],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert runs[0] == runs[1]
    assert len(runs[0]) > 1000


def test_another_seed_gives_another_shop(products: tuple[Product, ...]) -> None:
    other = make_products(demo.PRODUCTS, demo.SEED + 1)
    assert sum(a.title == b.title for a, b in zip(products, other, strict=True)) < 20


def test_pixels_and_histories_are_the_same_on_every_machine(shop: Dataset) -> None:
    """A change here makes the committed demo bundle stale: rebuild it, then quote the new digests."""
    assert shop.images is not None
    drawn = hashlib.sha256()
    for item in shop.items:
        drawn.update(pixels(shop.images / str(item.image)).tobytes())
    bought = hashlib.sha256(np.concatenate(shop.histories).astype("<i4").tobytes())
    assert (drawn.hexdigest()[:16], bought.hexdigest()[:16]) == (PIXELS, HISTORIES)


def test_the_shop_has_the_size_that_fits_into_the_repository(shop: Dataset) -> None:
    assert shop.images is not None
    assert (len(shop.items), len(shop.users)) == (600, 2000)
    assert len({item.item_id for item in shop.items}) == 600
    assert sum(path.stat().st_size for path in shop.images.iterdir()) < 1_200_000
    assert {pixels(shop.images / str(item.image)).shape for item in shop.items[:24]} == {(128, 128, 3)}


def test_a_saved_picture_holds_exactly_the_drawn_pixels(shop: Dataset, products: tuple[Product, ...]) -> None:
    assert shop.images is not None
    for at in range(0, 600, 41):
        assert np.array_equal(pixels(shop.images / str(shop.items[at].image)), picture(products[at]))


def test_every_kind_has_a_drawing_and_goes_with_another_kind() -> None:
    names = {kind.name for kind in KINDS}
    assert set(DRAW) == names == {kind.goes_with for kind in KINDS}
    assert all(kind.goes_with != kind.name for kind in KINDS)


def test_a_title_never_contradicts_the_picture(products: tuple[Product, ...]) -> None:
    for product in products:
        words = product.title.split(",")[0].split()
        assert {*COLOURS} & {*words} <= {product.colour}
        assert {*PATTERNS} & {*words} <= {product.pattern}
        assert product.title.startswith(product.brand)
        assert product.feature in product.title


def test_which_attributes_a_title_names_varies(products: tuple[Product, ...]) -> None:
    named = {
        tuple(value in product.title.split(",")[0].split() for value in (p.colour, p.pattern, p.material))
        for product in products
        for p in (product,)
    }
    assert len(named) == 8
    colour_named = np.mean([product.colour in product.title.split() for product in products])
    assert 0.25 < colour_named < 0.42


def test_most_of_a_plain_pictures_body_has_the_colour_of_the_product(products: tuple[Product, ...]) -> None:
    for product in products:
        if product.pattern == "plain" and product.material in ("stoneware", "porcelain", "cotton"):
            drawn = picture(product).reshape(-1, 3).astype(int)
            distance = np.abs(drawn - COLOURS[product.colour]).max(axis=1)
            assert np.mean(distance < 40) > 0.08, product.item_id


def test_brand_and_feature_cannot_be_seen_in_a_picture(products: tuple[Product, ...]) -> None:
    looks: dict[tuple[object, ...], set[bytes]] = {}
    for product in products[:300]:
        look = (product.kind.name, product.colour, product.pattern, product.material, product.slim)
        looks.setdefault(look, set()).add(picture(product).tobytes())
    assert {len(pictures) for pictures in looks.values()} == {1}
    assert len(looks) < 300


def test_no_shopper_buys_a_product_twice_and_histories_have_their_length(shop: Dataset) -> None:
    lengths = [len(history) for history in shop.histories]
    assert (min(lengths), max(lengths)) == (SHORTEST, LONGEST)
    assert all(len(set(history.tolist())) == len(history) for history in shop.histories)


def test_shoppers_buy_next_what_goes_with_the_last_purchase(
    shop: Dataset, products: tuple[Product, ...]
) -> None:
    pairs = [pair for history in shop.histories for pair in pairwise(history.tolist())]
    follows = np.mean([products[then].kind.name == products[first].kind.goes_with for first, then in pairs])
    assert follows > 3 / len(KINDS)


def test_tastes_drift(shop: Dataset, products: tuple[Product, ...]) -> None:
    """The colours of the first and last purchases overlap less than those of two neighbouring ones."""

    def same_colour(first: int, second: int) -> bool:
        return products[first].colour == products[second].colour

    long = [history.tolist() for history in shop.histories if len(history) >= 12]
    near = np.mean([same_colour(history[0], history[2]) for history in long])
    far = np.mean([same_colour(history[0], history[-1]) for history in long])
    assert far < near - 0.05


Words = Callable[[Product], set[str]]


def read_title(product: Product) -> set[str]:
    """What a reader knows: brand, feature, and the looks that the title happens to name."""
    words = product.title.split(",")[0].split()
    looks = {word for word in (product.colour, product.pattern, product.material) if word in words}
    return {product.brand, product.feature, *looks}


def see_picture(product: Product) -> set[str]:
    """What a viewer knows."""
    return {product.colour, product.pattern, product.material}


def do_both(product: Product) -> set[str]:
    """A reader and viewer, or a reader of title and caption."""
    return read_title(product) | see_picture(product)


def ndcg_of_a_recommender_that(
    knows: Words, products: Sequence[Product], examples: Sequence[Example], candidates: np.ndarray
) -> float:
    """N@5 of liking what is like the history, as far as one knows, and what goes with the last purchase."""
    vocabulary = sorted(set().union(*map(knows, products)))
    known = np.array(
        [[word in knows(product) for word in vocabulary] for product in products], dtype=np.float64
    )
    kind = np.array([product.kind.name for product in products])
    goes_with = np.array([product.kind.goes_with for product in products])

    def score(given: Sequence[Example], candidate_rows: np.ndarray) -> np.ndarray:
        histories = [example.history for example in given]
        taste = np.array([known[history].mean(axis=0) for history in histories])
        wanted = goes_with[[history[-1] for history in histories]]
        alike = np.einsum("ucw,uw->uc", known[candidate_rows], taste)
        return alike + 0.8 * (kind[candidate_rows] == wanted[:, None])

    return ndcg_at(evaluate(score, examples, candidates), 5)


def test_reading_and_seeing_beats_either_alone(shop: Dataset, products: tuple[Product, ...]) -> None:
    """By construction: this is what the demo is for."""
    examples = leave_one_out(shop.histories).test
    candidates = candidate_matrix(examples, DrawnCandidates(shop.histories, len(shop.items)))
    title, image, both = (
        ndcg_of_a_recommender_that(knows, products, examples, candidates)
        for knows in (read_title, see_picture, do_both)
    )
    assert min(title, image) > 0.3
    assert both > max(title, image) + 0.05
