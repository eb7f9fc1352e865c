"""Names the pattern that marks of one colour make on another: stripes, checks or dots."""

from __future__ import annotations

import numpy as np

from service.simulator.vision.silhouettes import Mask, window_sums

_MIN_CHANGES = 3.5  # between marks and ground along a row; fewer are a part of another colour, or shade
_ALIKE = 0.4  # disagreement in one direction relative to the other, below which the marks are stripes
_CHECKED = 0.32  # share of the surface covered by marks, from which on they are checks and not dots
_WINDOW = 0.17  # share of the picture's side: a pattern has marks and gaps in every window of this size


def find_pattern(marks: Mask, surface: Mask) -> str:
    """Names the pattern of marks on a surface: ``striped``, ``checked`` or ``dotted``, ``plain`` for none.

    The marks are compared with themselves moved by some pixels (an autocorrelation). Stripes agree along one
    direction; checks and dots disagree in both, and checks cover as much as the gaps between them.

    Args:
        marks: mask [height, width].
        surface: mask of the object [height, width].
    """
    surface = surface & _mixed(marks, surface)
    marks = marks & surface
    rows, columns = _changes(marks, surface), _changes(marks.T, surface.T)
    if max(rows, columns) < _MIN_CHANGES:
        return "plain"
    # Moved to the right the marks disagree by "across", moved down by "down".
    across, down = (_disagreement(marks, surface, step) for step in ((0, 1), (1, 0)))
    most = max(across, down)
    if min(across, down) < _ALIKE * most:
        return "striped"
    # Diagonal stripes: rows and columns both disagree, one of the diagonals agrees.
    if min(_disagreement(marks, surface, step) for step in ((1, 1), (1, -1))) < _ALIKE * most:
        return "striped"
    return "checked" if marks[surface].mean() > _CHECKED else "dotted"


def _mixed(marks: Mask, surface: Mask) -> Mask:
    """Finds where marks and gaps are near each other; large parts of one colour are no part of a pattern."""
    reach = max(2, round(_WINDOW * min(marks.shape) / 2))
    # Share of marks in the window around each pixel; near 0 or 1 there is no pattern [height, width].
    density = window_sums(marks & surface, reach) / np.maximum(window_sums(surface, reach), 1)
    mixed: Mask = (density > 0.06) & (density < 0.94)
    return mixed


def _changes(marks: Mask, surface: Mask) -> float:
    """Counts the changes between marks and ground along a row, on average over the rows with marks."""
    # A change counts where both neighbours belong to the object.
    both = surface[:, 1:] & surface[:, :-1]
    changes = ((marks[:, 1:] ^ marks[:, :-1]) & both).sum(axis=1)
    marked = marks.any(axis=1)
    return float(changes[marked].mean()) if marked.any() else 0.0


def _disagreement(marks: Mask, surface: Mask, step: tuple[int, int]) -> float:
    """Finds the largest share of pixels that differ from those some steps (rows, columns) away."""
    worst = 0.0
    for length in range(2, min(marks.shape) // 4, 2):
        here, there = _windows(step[0] * length, step[1] * length)
        both = surface[here] & surface[there]
        # Too small an overlap says nothing about the whole pattern.
        if both.sum() > 0.2 * surface.sum():
            worst = max(worst, float((marks[here] ^ marks[there])[both].mean()))
    return worst


def _windows(down: int, right: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Makes two windows of equal size, the second moved by so many rows (>= 0) and columns."""
    rows_here, rows_there = slice(None, -down or None), slice(down, None)
    if right >= 0:
        return (rows_here, slice(None, -right or None)), (rows_there, slice(right, None))
    return (rows_here, slice(-right, None)), (rows_there, slice(None, right))
