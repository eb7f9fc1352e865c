"""Describes a picture by 290 numbers, without a pretrained model: colours, layout, edges and spectrum.

Colour is measured in Oklab (Ottosson, 2020), where equal distances look equally different; edges as
histograms of oriented gradients (Dalal & Triggs, CVPR 2005) on a coarse grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.features.pictures import encode_pictures

SIDE = 64
"""Width and height in pixels to which every picture is reduced."""

LEVELS = (4, 5, 5)
"""Bins of the colour histogram: lightness, green-red, blue-yellow."""

GRID = 4
"""Number of cells of the layout and of the edges, in each direction."""

ORIENTATIONS = 8
"""Number of bins of an edge's direction, over 180 degrees."""

SIZE = 4 * 5 * 5 + GRID * GRID * 3 + GRID * GRID * ORIENTATIONS + 14
"""Length of a descriptor, 290: histogram, layout, edges, spectrum."""

Floats = NDArray[np.float32]


class Descriptor:
    """Encodes pictures for ``image_encoder = "descriptor"``."""

    identity = "descriptor-2"  # goes up when the numbers change, so that cached features are not used

    def encode(self, inputs: Sequence[str]) -> Floats:
        """Encodes paths: float32 [paths, 290]; a row of NaN for a picture that cannot be read."""
        encoded = np.empty((len(inputs), SIZE), dtype=np.float32)
        encode_pictures(inputs, encoded, lambda pictures: describe(*pictures)[None], batch=1)
        return encoded


def describe(picture: Image.Image) -> Floats:
    """Describes one RGB picture, float32 [290]: colour histogram, layout, edges, spectrum."""
    small = picture.resize((SIDE, SIDE), Image.Resampling.BOX)
    lab = oklab(np.asarray(small, dtype=np.float32) / np.float32(255))  # [64, 64, 3]
    return np.concatenate([_histogram(lab), _layout(lab), _edges(lab[..., 0]), _spectrum(lab[..., 0])])


def oklab(rgb: NDArray[np.floating[Any]]) -> Floats:
    """Converts sRGB in 0–1 to Oklab, [..., 3] each."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    to_cones = np.array(
        [
            [0.4122214708, 0.5363325363, 0.0514459929],
            [0.2119034982, 0.6806995451, 0.1073969566],
            [0.0883024619, 0.2817188376, 0.6299787005],
        ]
    )
    to_lab = np.array(
        [
            [0.2104542553, 0.7936177850, -0.0040720468],
            [1.9779984951, -2.4285922050, 0.4505937099],
            [0.0259040371, 0.7827717662, -0.8086757660],
        ]
    )
    return np.asarray(np.cbrt(linear @ to_cones.T) @ to_lab.T, dtype=np.float32)


def _histogram(lab: Floats) -> Floats:
    """Counts each colour [100]; square roots make small coloured parts count (Hellinger distance)."""
    # Oklab of sRGB colours: lightness 0 to 1, both colour axes within about ±0.3.
    low, high = np.array([0.0, -0.25, -0.25]), np.array([1.0, 0.25, 0.25])
    levels = np.array(LEVELS)
    bins = np.clip((lab.reshape(-1, 3) - low) / (high - low) * levels, 0, levels - 1).astype(np.int64)
    flat = np.ravel_multi_index(tuple(bins.T), LEVELS)
    counts = np.bincount(flat, minlength=int(levels.prod()))
    return np.asarray(np.sqrt(counts / counts.sum()), dtype=np.float32)


def _layout(lab: Floats) -> Floats:
    """Averages the colour of each cell of a 4 × 4 grid [48]."""
    return np.asarray(_cells(lab).mean(axis=(1, 3)).reshape(-1), dtype=np.float32)


def _edges(lightness: Floats) -> Floats:
    """Sums gradient strength by direction in each cell [128], at unit length over the picture."""
    down, right = np.gradient(lightness)  # [64, 64] each
    strength = np.hypot(down, right)
    direction = np.arctan2(down, right) % np.pi  # an edge has no sign
    which = (direction / np.pi * ORIENTATIONS).astype(np.int64) % ORIENTATIONS
    by_direction = strength[..., None] * (which[..., None] == np.arange(ORIENTATIONS))  # [64, 64, 8]
    edges = np.sqrt(_cells(by_direction).sum(axis=(1, 3)).reshape(-1))
    return np.asarray(edges / max(float(np.linalg.norm(edges)), 1e-6), dtype=np.float32)


def _spectrum(lightness: Floats) -> Floats:
    """Measures how fine the pattern is: the share of energy in 14 bands of spatial frequency [14]."""
    centred = lightness - lightness.mean()
    power = np.abs(np.fft.rfft2(centred)) ** 2  # [64, 33]
    # Cycles per pixel, at most 0.71; what lies beyond the highest band counts in it.
    radius = np.hypot(np.fft.fftfreq(SIDE)[:, None], np.fft.rfftfreq(SIDE)[None, :])
    band = np.minimum((radius * 2 * 14).astype(np.int64), 13)
    energy = np.bincount(band.ravel(), weights=power.ravel(), minlength=14)
    return np.asarray(np.sqrt(energy / max(float(energy.sum()), 1e-9)), dtype=np.float32)


def _cells(pixels: Floats) -> Floats:
    """Splits [64, 64, c] into the grid: [4, 16, 4, 16, c]."""
    step = SIDE // GRID
    return pixels.reshape(GRID, step, GRID, step, -1)
