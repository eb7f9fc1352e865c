"""Describes what pixels show, as far as simple image statistics tell: colours, pattern, outline, background.

It does not recognise things: a mug is a round or a tall object here, never a mug.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from service.simulator.colours import FAMILIES, Floats, name_of, pixels_to_lab
from service.simulator.pictures import Pixels

Mask = npt.NDArray[np.bool_]

_VISIBLE = 14.0  # CIELAB distance at which two areas look different at a glance
_DETAILED = 26.0  # mean distance from the two main colours above which a picture has no simple pattern


@dataclass(frozen=True, slots=True)
class Look:
    """What a picture shows.

    Attributes:
        colours: names of the object's main colour and, if it has one, of its second.
        pattern: ``plain``, ``striped``, ``checked``, ``dotted`` or ``detailed``.
        outline: ``round``, ``tall``, ``wide`` or ``compact``; empty when the picture has no background.
        background: ``light``, ``dark`` or a colour name; empty when the picture has no background.
    """

    colours: tuple[str, ...]
    pattern: str
    outline: str
    background: str

    @property
    def words(self) -> tuple[str, ...]:
        """Words a title may share with the picture: colours, their families and the pattern."""
        families = tuple(FAMILIES[colour] for colour in self.colours)
        pattern = () if self.pattern == "detailed" else (self.pattern,)
        return tuple(dict.fromkeys((*self.colours, *families, *pattern)))

    @property
    def sentence(self) -> str:
        """A caption of one sentence."""
        if not self.background:
            return f"A detailed picture, mostly {' and '.join(self.colours)}."
        main, *rest = self.colours
        second = rest[0] if rest else ""
        adjectives = f"{self.outline} {main}"
        match self.pattern:
            case "striped" | "dotted":
                marks = {"striped": "stripes", "dotted": "dots"}[self.pattern]
                what = f"{adjectives} object with {second} {marks}"
            case "checked":
                what = f"{adjectives} object with {second} checks"
            case "detailed":
                what = f"{adjectives} object with {second or 'varied'} details"
            case _:
                what = f"{self.outline} plain {main}{f' and {second}' if second else ''} object"
        return f"{_article(what)} {what} on a {self.background} background."


def look(pixels: Pixels) -> Look:
    """Describe pixels [height, width, 3]."""
    colours = pixels_to_lab(pixels)
    ground = _background(colours)
    if ground is None:
        everything = np.ones(colours.shape[:2], bool)
        return Look(_names(*_two_colours(colours[everything])[:2]), "detailed", "", "")
    mask = _object(colours, ground)
    inside = _inside(mask)
    major, minor, is_minor, spread = _two_colours(colours[inside])
    share = float(is_minor.mean())
    contrast = float(np.linalg.norm(major - minor))
    marks = np.zeros(mask.shape, bool)
    marks[inside] = is_minor
    if share < 0.04 or contrast < _VISIBLE:
        pattern = "plain"
    elif spread > _DETAILED:
        pattern = "detailed"
    else:
        pattern = _pattern(marks, inside)
    second = pattern != "plain" or (share > 0.12 and contrast > 2 * _VISIBLE)
    main = colours[inside].mean(axis=0) if pattern == "plain" and not second else major
    return Look(_names(main, minor if second else None), pattern, _outline(mask), _ground_name(ground))


def _background(colours: Floats) -> Floats | None:
    """The colour around the object; None when the edge of the picture has no one colour."""
    edge = np.concatenate([colours[:2].reshape(-1, 3), colours[-2:].reshape(-1, 3),
                           colours[:, :2].reshape(-1, 3), colours[:, -2:].reshape(-1, 3)])  # fmt: skip
    middle: Floats = np.median(edge, axis=0).astype(np.float32)
    alike = np.linalg.norm(edge - middle, axis=-1) < _VISIBLE
    return middle if alike.mean() > 0.6 else None


def _object(colours: Floats, ground: Floats) -> Mask:
    mask: Mask = np.linalg.norm(colours - ground, axis=-1) > _VISIBLE
    return mask if mask.mean() > 0.02 else np.ones_like(mask)


def _inside(mask: Mask) -> Mask:
    """The object without its blurred edge."""
    inner = mask.copy()
    inner[1:] &= mask[:-1]
    inner[:-1] &= mask[1:]
    inner[:, 1:] &= mask[:, :-1]
    inner[:, :-1] &= mask[:, 1:]
    return inner if inner.any() else mask


def _two_colours(colours: Floats) -> tuple[Floats, Floats, Mask, float]:
    """Split colours [n, 3] into two groups by 2-means.

    Returns:
        The mean of the larger group, of the smaller one, who is in the smaller one, and the mean distance
        of a colour from the mean of its group.
    """
    centre = colours.mean(axis=0)
    _, axes = np.linalg.eigh(np.cov((colours - centre).T) if len(colours) > 1 else np.eye(3))
    along = (colours - centre) @ axes[:, -1]
    split = along > (along.min() + along.max()) / 2
    first = second = centre
    for _ in range(8):
        first = colours[~split].mean(axis=0) if not split.all() else first
        second = colours[split].mean(axis=0) if split.any() else second
        to_first = np.linalg.norm(colours - first, axis=-1)
        to_second = np.linalg.norm(colours - second, axis=-1)
        split = to_second < to_first
    error = float(np.minimum(to_first, to_second).mean())
    if split.mean() > 0.5:
        return second, first, ~split, error
    return first, second, split, error


def _pattern(marks: Mask, inside: Mask) -> str:
    """Name the pattern of the second colour by how it disagrees with itself moved in four directions.

    Stripes disagree across and agree along; checks and dots disagree both ways; checks are as many as what is
    between them, or reach from edge to edge as lines do.
    """
    share = marks[inside].mean()
    across, down = (_disagreement(marks, inside, step) / (2 * share) for step in ((0, 1), (1, 0)))
    if max(_changes(marks, inside), _changes(marks.T, inside.T)) < 2.5:
        return "plain"
    if min(across, down) < 0.4 * max(across, down):
        return "striped"
    diagonals = (_disagreement(marks, inside, step) / (2 * share) for step in ((1, 1), (1, -1)))
    if min(diagonals) < 0.4 * max(across, down):
        return "striped"
    return "checked" if share > 0.4 or _has_lines(marks, inside) else "dotted"


def _disagreement(marks: Mask, inside: Mask, step: tuple[int, int]) -> float:
    """The largest share of pixels that differ from the pixel some steps away."""
    worst = 0.0
    for length in range(2, min(marks.shape) // 2, 2):
        here, there = _shifted(step[0] * length, step[1] * length)
        both = inside[here] & inside[there]
        if both.sum() > 0.2 * inside.sum():
            worst = max(worst, float((marks[here] ^ marks[there])[both].mean()))
    return worst


def _shifted(down: int, right: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Two windows of equal size on one array, the second moved by so many rows and columns (rows >= 0)."""
    rows_here, rows_there = slice(None, -down or None), slice(down, None)
    if right >= 0:
        return (rows_here, slice(None, -right or None)), (rows_there, slice(right, None))
    return (rows_here, slice(-right, None)), (rows_there, slice(None, right))


def _changes(marks: Mask, inside: Mask) -> float:
    """Mean number of changes between the two colours along a row of the object."""
    both = inside[:, 1:] & inside[:, :-1]
    changes = ((marks[:, 1:] ^ marks[:, :-1]) & both).sum(axis=1)
    rows = inside.sum(axis=1) > 0.3 * inside.sum(axis=1).max()
    return float(changes[rows].mean())


def _has_lines(marks: Mask, inside: Mask) -> bool:
    """Whether the second colour fills some row and some column of the object."""
    filled = []
    for axis in (0, 1):
        size = inside.sum(axis=axis)
        wide = size > 0.5 * size.max()
        filled.append(((marks & inside).sum(axis=axis)[wide] / size[wide]).max() > 0.8)
    return all(filled)


def _outline(mask: Mask) -> str:
    rows = np.flatnonzero(mask.mean(axis=1) > 0.03)
    columns = np.flatnonzero(mask.mean(axis=0) > 0.03)
    if not len(rows) or not len(columns):
        return "compact"
    height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
    if height > 1.25 * width:
        return "tall"
    if width > 1.25 * height:
        return "wide"
    filled = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].mean()
    return "round" if 0.70 < filled < 0.88 else "compact"  # a disc fills 0.79 of its box


def _ground_name(ground: Floats) -> str:
    lightness, chroma = ground[0], float(np.hypot(ground[1], ground[2]))
    if chroma < 12:
        return "light" if lightness > 75 else "dark" if lightness < 30 else name_of(ground)
    return name_of(ground)


def _names(main: Floats, second: Floats | None) -> tuple[str, ...]:
    names = (name_of(main),) if second is None else (name_of(main), name_of(second))
    return tuple(dict.fromkeys(names))


def _article(phrase: str) -> str:
    return "An" if phrase[0] in "aeiou" else "A"
