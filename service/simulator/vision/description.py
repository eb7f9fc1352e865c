"""Describes what pixels show, as far as simple image statistics tell: colours, pattern, outline, background.

It does not recognise things: a mug is a round or a tall object here, never a mug.
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
    in_words,
    name_of,
    palette,
    pixels_to_lab,
)
from service.simulator.vision.patterns import pattern
from service.simulator.vision.picture_cells import Pixels
from service.simulator.vision.silhouettes import Mask, background, outline, silhouette, without_rim

_RIM = 2  # pixels
_SPECK = 0.01  # share of the picture below which there is no object
_VISIBLE_SHARE = 0.05  # of the object, for the marks of a pattern
_LARGE_SHARE = 0.2  # of the object, for a part of another colour
_CONTRAST = 35.0  # CIELAB distance between the marks of a pattern and what they are on


@dataclass(frozen=True, slots=True)
class Look:
    """What a picture shows.

    Attributes:
        colours: names of the object's main colour and, if it has one, of its second; none when there is no
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
            return f"A detailed picture, mostly {' and '.join(map(in_words, self.colours))}."
        main, *rest = map(in_words, self.colours)
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
    ground = background(colours)
    if ground is None:
        whole = palette(colours.reshape(-1, 3))
        return Look(_names(whole.colours[:2]), "detailed", "", "")
    mask = silhouette(colours, ground)
    surface = without_rim(mask, _RIM)
    if surface.mean() < _SPECK:
        return Look((), "plain", "", _ground_name(ground))
    rows, columns = surface.any(axis=1), surface.any(axis=0)
    colours, surface = colours[rows][:, columns], surface[rows][:, columns]  # less to look at
    found = palette(colours[surface])
    name, chosen = _pattern(found, colours, surface)
    return Look(_names(found.colours[chosen]), name, outline(mask), _ground_name(ground))


def _pattern(found: Palette, colours: Floats, surface: Mask) -> tuple[str, list[int]]:
    """The pattern, and which colours to name: the main one, and that of the pattern or of a large part."""
    visible = [index for index, share in enumerate(found.shares) if share > _VISIBLE_SHARE]
    for first, second in combinations(visible, 2):
        if np.linalg.norm(found.colours[first] - found.colours[second]) < _CONTRAST:
            continue
        near, marks = blend(colours, found.colours[first], found.colours[second])
        name = pattern(marks & surface, near & surface)
        if name != "plain":
            return name, _main_first(found, first, second)
    large = [index for index in visible if found.shares[index] > _LARGE_SHARE]
    return "plain", large[:2] or [0]


def _main_first(found: Palette, first: int, second: int) -> list[int]:
    """Of two colours of about equal share the more colourful one is the object's: red with white checks."""
    chroma = np.hypot(found.colours[:, 1], found.colours[:, 2])
    close = found.shares[second] > 0.35 * found.shares[first]
    return [second, first] if close and chroma[second] > chroma[first] + 15 else [first, second]


def _ground_name(ground: Floats) -> str:
    lightness, chroma = ground[0], float(np.hypot(ground[1], ground[2]))
    if chroma < 12:
        return "light" if lightness > 75 else "dark" if lightness < 30 else name_of(ground)
    return name_of(ground)


def _names(colours: Floats) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name_of(colour) for colour in colours))


def _article(phrase: str) -> str:
    return "An" if phrase[0] in "aeiou" else "A"
