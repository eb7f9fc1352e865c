"""Invents the products of the demo shop: the attributes of each, and a title that names some of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import TypeVar

T = TypeVar("T")

BRANDS = (
    "Larkfield",
    "Norrhamn",
    "Casa Pino",
    "Tidewell",
    "Ember & Oak",
    "Moss Lane",
    "Kintaro",
    "Bluebarn",
    "Atelier Rue",
    "Solvang",
)
FEATURES = ("handmade", "recycled", "gift boxed", "limited edition", "for children")
COLOURS = ("red", "yellow", "green", "blue", "purple", "pink", "black", "white")
PATTERNS = ("plain", "striped", "dotted", "checked")


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of product.

    Attributes:
        name: name in the singular, as in a title.
        categories: two categories, from general to specific.
        materials: materials that a picture can show.
        sizes: sizes, which only titles name.
        goes_with: name of the kind that shoppers like to buy next.
    """

    name: str
    categories: tuple[str, str]
    materials: tuple[str, ...]
    sizes: tuple[str, ...]
    goes_with: str


KINDS = (
    Kind("mug", ("Kitchen", "Mugs"), ("stoneware", "porcelain", "steel"), ("250 ml", "350 ml"), "teapot"),
    Kind("teapot", ("Kitchen", "Teapots"), ("stoneware", "porcelain", "steel"), ("0.8 l", "1.2 l"), "plate"),
    Kind("plate", ("Kitchen", "Plates"), ("stoneware", "porcelain", "wood"), ("20 cm", "27 cm"), "bowl"),
    Kind("bowl", ("Kitchen", "Bowls"), ("stoneware", "porcelain", "wood"), ("14 cm", "22 cm"), "mug"),
    Kind("lamp", ("Living", "Lamps"), ("cotton", "glass", "steel"), ("32 cm", "45 cm"), "clock"),
    Kind("clock", ("Living", "Clocks"), ("wood", "steel", "porcelain"), ("25 cm", "30 cm"), "vase"),
    Kind("vase", ("Living", "Vases"), ("stoneware", "porcelain", "glass"), ("18 cm", "26 cm"), "cushion"),
    Kind("cushion", ("Living", "Cushions"), ("cotton", "velvet", "leather"), ("40 cm", "50 cm"), "lamp"),
    Kind("bottle", ("Travel", "Bottles"), ("steel", "glass"), ("500 ml", "750 ml"), "bag"),
    Kind("bag", ("Travel", "Bags"), ("cotton", "leather", "velvet"), ("8 l", "14 l"), "umbrella"),
    Kind("umbrella", ("Travel", "Umbrellas"), ("cotton", "nylon"), ("95 cm", "110 cm"), "notebook"),
    Kind("notebook", ("Travel", "Notebooks"), ("leather", "cotton", "velvet"), ("A5", "A6"), "bottle"),
)


@dataclass(frozen=True, slots=True)
class Product:
    """One product with all its attributes, some of which the title names and some the picture shows.

    Attributes:
        item_id: public id, ``D0001`` and up.
        title: title in the catalogue.
        kind: kind of product.
        brand: brand, which only the title names.
        feature: feature, which only the title names.
        colour: main colour in the picture.
        pattern: pattern in the picture.
        material: material in the picture.
        slim: whether the shape in the picture is the narrower one.
    """

    item_id: str
    title: str
    kind: Kind
    brand: str
    feature: str
    colour: str
    pattern: str
    material: str
    slim: bool


def pick(random: Random, options: Sequence[T]) -> T:
    """Draws one of the options; ``Random.choice`` may draw differently in another Python."""
    return options[int(random.random() * len(options))]


def make_products(n: int, seed: int) -> tuple[Product, ...]:
    """Makes the first n products of the shop with this seed; kinds come in turn."""
    # A text as seed: products and shoppers with the same number have different streams.
    random = Random(f"products {seed}")
    return tuple(_make_product(f"D{at + 1:04}", KINDS[at % len(KINDS)], random) for at in range(n))


def _make_product(item_id: str, kind: Kind, random: Random) -> Product:
    brand, feature = pick(random, BRANDS), pick(random, FEATURES)
    colour, pattern = pick(random, COLOURS), pick(random, PATTERNS)
    material, size = pick(random, kind.materials), pick(random, kind.sizes)
    # Of the attributes in the picture the title names each with a probability of one third.
    named = [word for word in (colour, pattern, material) if random.random() < 1 / 3]
    return Product(
        item_id=item_id,
        title=f"{' '.join([brand, *named, kind.name])}, {feature}, {size}",
        kind=kind,
        brand=brand,
        feature=feature,
        colour=colour,
        pattern=pattern,
        material=material,
        slim=random.random() < 0.5,
    )
