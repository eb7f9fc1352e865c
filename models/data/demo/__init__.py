"""Makes the demo data set: an invented shop for which it is known which information helps a recommender.

Every product has attributes that only its title names (brand, feature), attributes that only its picture
shows for certain (colour, pattern, material; a title names some of them), and a kind that both show. Shoppers
prefer certain brands, features, colours and patterns, change one preference half-way, and buy what goes with
their last purchase. So a recommender that reads titles and pictures must beat one that reads either alone,
and captions of the pictures must help one that reads text alone.

The same seed gives the same records and the same pixels on every machine: random numbers come from
``random.Random.random`` alone, whose sequence Python guarantees, and pictures are drawn with integer or
exactly rounded arithmetic. Only the compression of the PNG files may differ between builds of zlib.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from models.contracts import Item
from models.data.dataset import Dataset
from models.data.demo.pictures import picture
from models.data.demo.products import Product, make_products
from models.data.demo.shoppers import make_histories

SEED = 7  # of the committed demo bundle, as the two numbers below
PRODUCTS = 600
SHOPPERS = 2000


def generate(pictures: Path, seed: int = SEED, products: int = PRODUCTS, shoppers: int = SHOPPERS) -> Dataset:
    """Makes the shop, the same for the same seed.

    Args:
        pictures: existing folder; one 128 × 128 PNG per product is written there.
        seed: seed of everything random.
        products: number of products; a larger shop with the same seed begins with the same ones.
        shoppers: number of users.
    """
    stock = make_products(products, seed)
    for product in stock:
        _save(product, pictures)
    return Dataset(
        name="demo",
        items=tuple(_item(product) for product in stock),
        users=tuple(f"u{number:04}" for number in range(1, shoppers + 1)),
        histories=make_histories(stock, shoppers, seed),
        images=pictures,
    )


def _item(product: Product) -> Item:
    return Item(
        item_id=product.item_id,
        title=product.title,
        categories=product.kind.categories,
        image=_file_name(product),
    )


def _file_name(product: Product) -> str:
    return f"{product.item_id}.png"


def _save(product: Product, folder: Path) -> None:
    """Writes the picture with a palette of exactly its own colours, a third of the size of RGB."""
    pixels = picture(product).astype(np.int32)
    # One number per colour, so that np.unique finds the palette: int32 [128, 128].
    packed = pixels[:, :, 0] << 16 | pixels[:, :, 1] << 8 | pixels[:, :, 2]
    colours, index = np.unique(packed, return_inverse=True)
    image = Image.fromarray(index.reshape(packed.shape).astype(np.uint8))
    image.putpalette(np.stack([colours >> 16, colours >> 8, colours], axis=1).astype(np.uint8).tobytes())
    image.save(folder / _file_name(product))
