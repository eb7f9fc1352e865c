"""Names colours by the nearest named one in CIELAB, and groups pixels into a few colours."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

# Name, family (the basic colour word), sRGB in 0..255. Values are close to the CSS and xkcd colour lists.
_NAMED = (
    ("black", "black", (24, 24, 26)),
    ("dark grey", "grey", (84, 84, 86)),
    ("grey", "grey", (130, 130, 132)),
    ("silver", "grey", (190, 192, 195)),
    ("white", "white", (250, 250, 250)),
    ("cream", "cream", (250, 242, 220)),
    ("beige", "beige", (222, 205, 172)),
    ("tan", "brown", (196, 156, 108)),
    ("brown", "brown", (120, 76, 40)),
    ("dark brown", "brown", (66, 42, 28)),
    ("terracotta", "orange", (196, 94, 62)),
    ("red", "red", (204, 36, 36)),
    ("crimson", "red", (170, 20, 50)),
    ("burgundy", "red", (112, 20, 40)),
    ("coral", "orange", (250, 128, 104)),
    ("orange", "orange", (240, 130, 28)),
    ("mustard", "yellow", (206, 164, 44)),
    ("yellow", "yellow", (248, 216, 52)),
    ("lime", "green", (160, 210, 60)),
    ("olive", "green", (118, 122, 44)),
    ("green", "green", (52, 142, 62)),
    ("dark green", "green", (22, 72, 44)),
    ("sage", "green", (160, 182, 146)),
    ("mint", "green", (168, 226, 196)),
    ("teal", "teal", (18, 128, 124)),
    ("turquoise", "blue", (64, 204, 200)),
    ("sky blue", "blue", (132, 192, 236)),
    ("blue", "blue", (44, 96, 196)),
    ("navy", "blue", (26, 38, 88)),
    ("slate", "blue", (94, 112, 134)),
    ("lavender", "purple", (190, 176, 222)),
    ("purple", "purple", (122, 60, 156)),
    ("plum", "purple", (96, 40, 92)),
    ("magenta", "pink", (206, 36, 138)),
    ("pink", "pink", (244, 164, 188)),
    ("rose", "pink", (218, 100, 126)),
)
_SHADE = np.array([0.5, 1.0, 1.0], np.float32)  # weights of L*, a*, b* in distances
_MAX_COLOURS = 4  # of a palette; pixels of rarer colours count to the nearest of them
_SAME = 12.0  # CIELAB distance, lightness halved, below which two groups are one colour
_BLEND = 14.0  # CIELAB distance, lightness halved, from the line between two colours within which blends lie

NAMES = tuple(name for name, _, _ in _NAMED)
FAMILIES = {name: family for name, family, _ in _NAMED}


def colour_phrase(name: str) -> str:
    """Adds the family to a colour name that does not say it: crimson red, navy blue."""
    family = FAMILIES[name]
    return name if family in name else f"{name} {family}"


def lab(rgb: npt.ArrayLike) -> Floats:
    """Converts sRGB [..., 3] in 0..255 to CIELAB (D65)."""
    # IEC 61966-2-1: sRGB to linear light, then to XYZ; CIE 15: XYZ to L*a*b*, white point D65.
    unit = np.asarray(rgb, np.float32) / 255
    linear = np.where(unit <= 0.04045, unit / 12.92, ((unit + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array(
        [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]], np.float32
    )
    xyz = linear @ to_xyz.T / np.array([0.9505, 1.0, 1.089], np.float32)  # [..., 3], white at 1
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    x, y, z = np.moveaxis(f, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1).astype(np.float32)


def pixels_to_lab(pixels: npt.NDArray[np.uint8]) -> Floats:
    """Converts sRGB pixels [..., 3] to CIELAB through a table of 32 levels per channel.

    Much faster than `lab`; the error is below 3 CIELAB units.
    """
    levels = pixels.astype(np.int32) >> 3  # [..., 3] in 0..31
    indices = (levels[..., 0] << 10) | (levels[..., 1] << 5) | levels[..., 2]
    converted: Floats = _lab_table()[indices]
    return converted


def nearest_name(colour: Floats) -> str:
    """Names a CIELAB colour [3] by the nearest named colour."""
    return NAMES[int(np.argmin(((_lab_names() - colour) ** 2).sum(axis=-1)))]


@dataclass(frozen=True, slots=True)
class Palette:
    """The few colours that pixels consist of, largest share first.

    Attributes:
        colours: CIELAB [k, 3].
        shares: shares of all pixels [k], 0 to 1, in sum 1.
        members: index of the nearest colour of each pixel [n].
    """

    colours: Floats
    shares: Floats
    members: npt.NDArray[np.int64]


def palette(pixels: Floats) -> Palette:
    """Groups CIELAB pixels [n, 3] into at most ``_MAX_COLOURS`` colours.

    k-means (Lloyd 1982) that begins at the commonest colour names. Lightness counts half, since light and
    shade on one material are not two colours.
    """
    scaled = pixels * _SHADE
    # Every third pixel finds the centres about as well; all pixels are assigned to them in the end.
    names = _nearest(scaled[::3], _lab_names() * _SHADE)
    # The commonest names are far apart already, so that k-means needs few steps.
    commonest = np.bincount(names, minlength=len(NAMES)).argsort()[::-1][:_MAX_COLOURS]
    centres = _means(scaled[::3], names, commonest)
    for _ in range(4):
        near = _nearest(scaled[::3], centres)
        centres = _means(scaled[::3], near, np.arange(len(centres)))
    centres = _distinct(centres)
    members = _nearest(scaled, centres)
    counts = np.bincount(members, minlength=len(centres))
    order = counts.argsort()[::-1]  # largest first
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return Palette(
        (centres / _SHADE)[order], (counts / counts.sum())[order].astype(np.float32), rank[members]
    )


def blend(
    pixels: Floats, first: Floats, second: Floats
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Finds the pixels that are one of two colours or a blend of them, and those of them nearer the second.

    Blends count, since pixels where two colours meet are neither.

    Args:
        pixels: CIELAB [..., 3].
        first: CIELAB [3].
        second: CIELAB [3].

    Returns:
        Two masks [...].
    """
    way = (second - first) * _SHADE
    offset = (pixels - first) * _SHADE
    # Projection on the line from first to second, as a share of its length [...].
    part = np.clip(offset @ way / (way @ way), 0, 1)
    near = np.linalg.norm(offset - part[..., None] * way, axis=-1) < _BLEND
    return near, near & (part > 0.5)


def _nearest(pixels: Floats, centres: Floats) -> npt.NDArray[np.int64]:
    # Squared distances less the squared length of each pixel, which orders the centres alike [n, k].
    distances = (centres**2).sum(axis=1) - 2 * pixels @ centres.T
    nearest: npt.NDArray[np.int64] = distances.argmin(axis=1)
    return nearest


def _means(pixels: Floats, members: npt.NDArray[np.int64], groups: npt.NDArray[np.int64]) -> Floats:
    return np.stack([pixels[members == group].mean(axis=0) for group in groups if (members == group).any()])


def _distinct(centres: Floats) -> Floats:
    """Leaves out centres that are close to an earlier one."""
    kept: list[Floats] = []
    for centre in centres:
        if all(np.linalg.norm(centre - other) > _SAME for other in kept):
            kept.append(centre)
    return np.stack(kept)


@cache
def _lab_table() -> Floats:
    # The middle of each of the 32 levels.
    middles = np.arange(32) * 8 + 4
    return lab(np.stack(np.meshgrid(middles, middles, middles, indexing="ij"), axis=-1).reshape(-1, 3))


@cache
def _lab_names() -> Floats:
    return lab([rgb for _, _, rgb in _NAMED])
