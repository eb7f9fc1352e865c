"""Finds the object of a product picture, which is what the background encloses, and names its outline."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from service.simulator.vision.colours import Floats

Mask = npt.NDArray[np.bool_]

_DIFFERENT = 5.0  # CIELAB distance from a background without noise at which a pixel belongs to the object
_EVEN = 12.0  # CIELAB distance within which the edge of a picture has one colour
_SHADOW = 15.0  # CIELAB lightness below the background up to which a grey pixel is a shadow on it
_ALONE = 3  # pixels of a 3 × 3 window that differ from the background; up to so many are compression noise
_SLIVER = 0.04  # share of a row or column; those with less of the object do not count for its outline
_EDGE = 2  # pixels, width of the frame from which the background is read


def background(colours: Floats) -> Floats | None:
    """Finds the colour [3] around the object; None when the edge of the picture has more than one.

    Args:
        colours: CIELAB [height, width, 3].
    """
    edge = _edge(colours)
    middle: Floats = np.median(edge, axis=0).astype(np.float32)
    alike = np.linalg.norm(edge - middle, axis=-1) < _EVEN
    return middle if alike.mean() > 0.7 else None


def silhouette(colours: Floats, ground: Floats) -> Mask:
    """Makes the object's mask [height, width]: pixels unlike the background, and those between such pixels.

    Parts in the colour of the background, such as white stripes on white, belong to it since they are
    enclosed. A soft shadow, a little darker than the background and of its hue, does not.

    Args:
        colours: CIELAB [height, width, 3].
        ground: colour of the background [3].
    """
    offset = colours - ground
    # Compression makes the background uneven; the threshold rises with that noise.
    noise = np.linalg.norm(_edge(colours) - ground, axis=-1).mean()
    different = np.linalg.norm(offset, axis=-1) > max(_DIFFERENT, 3 * noise)
    shadow = (
        (np.hypot(offset[..., 1], offset[..., 2]) < 5) & (offset[..., 0] < 0) & (offset[..., 0] > -_SHADOW)
    )
    # Single pixels that differ are noise; an object has neighbours.
    different = window_sums(different & ~shadow, 1) > _ALONE
    return _between(different, axis=0) & _between(different, axis=1)


def _edge(colours: Floats) -> Floats:
    """Takes the pixels [n, 3] of the frame."""
    frame = np.ones(colours.shape[:2], bool)
    frame[_EDGE:-_EDGE, _EDGE:-_EDGE] = False
    edge: Floats = colours[frame]
    return edge


def erode(mask: Mask, width: int) -> Mask:
    """Erodes a mask by so many pixels, which removes the edge where the object blends into the background."""
    inner = mask.copy()
    for _ in range(width):
        rim = inner.copy()
        rim[1:] &= inner[:-1]
        rim[:-1] &= inner[1:]
        rim[:, 1:] &= inner[:, :-1]
        rim[:, :-1] &= inner[:, 1:]
        inner = rim
    return inner


def outline(mask: Mask) -> str:
    """Names the outline of a mask: ``tall``, ``wide``, ``round`` or ``compact``."""
    rows = np.flatnonzero(mask.mean(axis=1) > _SLIVER)
    columns = np.flatnonzero(mask.mean(axis=0) > _SLIVER)
    if not len(rows) or not len(columns):
        return "compact"
    height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
    if height > 1.25 * width:
        return "tall"
    if width > 1.25 * height:
        return "wide"
    filled = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].mean()
    return "round" if 0.72 < filled < 0.86 else "compact"  # a disc fills π/4 = 0.79 of its box


def window_sums(mask: Mask, reach: int) -> npt.NDArray[np.int64]:
    """Counts for every pixel the pixels set within so many rows and columns of it (a box filter)."""
    padded = np.pad(mask, ((reach + 1, reach), (reach + 1, reach))).astype(np.int64).cumsum(0).cumsum(1)
    # The padded cumulative sums are an integral image: four corners give the sum over any window.
    size = 2 * reach + 1
    lower, upper = padded[size:], padded[:-size]
    sums: npt.NDArray[np.int64] = lower[:, size:] - upper[:, size:] - lower[:, :-size] + upper[:, :-size]
    return sums


def _between(mask: Mask, axis: int) -> Mask:
    """Sets the pixels that have set ones on both sides along an axis."""
    before = np.logical_or.accumulate(mask, axis=axis)
    after = np.flip(np.logical_or.accumulate(np.flip(mask, axis), axis=axis), axis)
    between: Mask = before & after
    return between
