"""Describes what pixels show: colours, pattern, outline and background of one object.

The description is made from image statistics, without a model that recognises things: a mug is described as a
round or a tall object.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np

from service.simulator.vision.colours import (
    FAMILIES,
    Floats,
    Palette,
    blend,
    colour_phrase,
    nearest_name,
    palette,
    pixels_to_lab,
)
from service.simulator.vision.patterns import find_pattern
from service.simulator.vision.picture_cells import Pixels
from service.simulator.vision.silhouettes import Mask, background, erode, outline, silhouette

_RIM = 2  # pixels at the edge of the object that blend into the background
_SPECK = 0.01  # share of the picture's pixels below which the picture counts as one without an object
_VISIBLE_SHARE = 0.05  # of the object's pixels; rarer colours are not taken for the marks of a pattern
_LARGE_SHARE = 0.2  # of the object's pixels, above which a part of another colour is named
_CONTRAST = 35.0  # CIELAB distance of marks from their ground; light and shade on one colour differ by less


@dataclass(frozen=True, slots=True)
class Description:
    """What a picture shows.

    Attributes:
        colours: names of the object's main colour and, if it has one, of its second; empty when there is no
            object.
        pattern: ``plain``, ``striped``, ``checked``, ``dotted`` or ``detailed``.
        outline: ``round``, ``tall``, ``wide`` or ``compact``; empty when object or background is missing.
        background: ``light``, ``dark`` or a colour name; empty when the picture has no background.
    """

    colours: tuple[str, ...]
    pattern: str
    outline: str
    background: str

    @property
    def words(self) -> tuple[str, ...]:
        """Words a title may share with the picture: colours, their families and the pattern."""
        if not self.colours:
            return ()
        families = tuple(FAMILIES[colour] for colour in self.colours)
        pattern = () if self.pattern == "detailed" else (self.pattern,)
        return tuple(dict.fromkeys((*self.colours, *families, *pattern)))

    @property
    def sentence(self) -> str:
        """A caption of one sentence."""
        if not self.colours:
            return f"A picture of nothing but a {self.background} background."
        if not self.background:
            return f"A detailed picture, mostly {' and '.join(map(colour_phrase, self.colours))}."
        main, *rest = map(colour_phrase, self.colours)
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


def describe(pixels: Pixels) -> Description:
    """Describes one object.

    Args:
        pixels: RGB [height, width, 3].
    """
    colours = pixels_to_lab(pixels)  # [height, width, 3]
    ground = background(colours)
    if ground is None:
        # No background: the picture is full of detail, and its two largest colours are all that is sure.
        whole = palette(colours.reshape(-1, 3))
        return Description(_names(whole.colours[:2]), "detailed", "", "")
    mask = silhouette(colours, ground)  # [height, width]
    surface = erode(mask, _RIM)  # [height, width]
    if surface.mean() < _SPECK:
        return Description((), "plain", "", _ground_name(ground))
    rows, columns = surface.any(axis=1), surface.any(axis=0)
    # The box of the object alone, which is faster to look through.
    colours, surface = colours[rows][:, columns], surface[rows][:, columns]
    found = palette(colours[surface])
    name, chosen = _pattern(found, colours, surface)
    return Description(_names(found.colours[chosen]), name, outline(mask), _ground_name(ground))


def _pattern(found: Palette, colours: Floats, surface: Mask) -> tuple[str, list[int]]:
    """Names the pattern of an object, and chooses which of its colours to name.

    Args:
        found: colours of the object.
        colours: CIELAB [height, width, 3].
        surface: mask of the object [height, width].

    Returns:
        The pattern, and one or two indices into the palette: the main colour, and that of the pattern or of a
        large part.
    """
    # Pairs of colours come in the order of their shares, so that the first pattern found is the largest.
    visible = [index for index, share in enumerate(found.shares) if share > _VISIBLE_SHARE]
    for first, second in combinations(visible, 2):
        if np.linalg.norm(found.colours[first] - found.colours[second]) < _CONTRAST:
            continue
        near, marks = blend(colours, found.colours[first], found.colours[second])
        name = find_pattern(marks & surface, near & surface)
        if name != "plain":
            return name, _main_first(found, first, second)
    large = [index for index in visible if found.shares[index] > _LARGE_SHARE]
    return "plain", large[:2] or [0]


def _main_first(found: Palette, first: int, second: int) -> list[int]:
    """Orders two indices; of colours of about equal share the one of higher chroma is the main one."""
    # CIELAB chroma, the distance from grey: "red with white checks", not "white with red checks".
    chroma = np.hypot(found.colours[:, 1], found.colours[:, 2])
    # About equal: the second has more than 35 % of the first's pixels.
    close = found.shares[second] > 0.35 * found.shares[first]
    return [second, first] if close and chroma[second] > chroma[first] + 15 else [first, second]


def _ground_name(ground: Floats) -> str:
    """Names the colour [3] of a background: ``light`` and ``dark`` for greys, else a colour name."""
    lightness, chroma = ground[0], float(np.hypot(ground[1], ground[2]))
    if chroma < 12:
        return "light" if lightness > 75 else "dark" if lightness < 30 else nearest_name(ground)
    return nearest_name(ground)


def _names(colours: Floats) -> tuple[str, ...]:
    return tuple(dict.fromkeys(nearest_name(colour) for colour in colours))


def _article(phrase: str) -> str:
    return "An" if phrase[0] in "aeiou" else "A"
