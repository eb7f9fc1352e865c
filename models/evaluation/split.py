"""Cuts the histories of a data set for training, validation and test: leave-one-out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.data.dataset import Rows


@dataclass(frozen=True, slots=True)
class Example:
    """One prediction with a known answer: the item after ``history`` is ``target``.

    Attributes:
        user: position of the user in ``Dataset.users``.
        history: item rows before the target, oldest first.
        target: item row of the answer.
    """

    user: int
    history: Rows
    target: int


@dataclass(frozen=True, slots=True)
class Split:
    """A data set cut for training, validation and test.

    Attributes:
        training: item rows before both targets, per user.
        validation: examples of the second to last items; their history is the training part.
        test: examples of the last items; their history holds the validation item.
    """

    training: tuple[Rows, ...]
    validation: tuple[Example, ...]
    test: tuple[Example, ...]

    @property
    def before_test(self) -> tuple[Rows, ...]:
        """Item rows before the test targets, per user: the training part with the validation targets."""
        longer = {example.user: example.history for example in self.test}
        return tuple(longer.get(user, rows) for user, rows in enumerate(self.training))


def leave_one_out(histories: Sequence[Rows]) -> Split:
    """Cuts every history into training part, validation target and test target.

    The history of a user with fewer than three items is training part as a whole: without the two targets
    nothing would be left to predict from. Such a user is in neither list of examples.
    """
    long_enough = [(user, rows) for user, rows in enumerate(histories) if len(rows) >= 3]
    return Split(
        training=tuple(rows[:-2] if len(rows) >= 3 else rows for rows in histories),
        validation=tuple(Example(user, rows[:-2], int(rows[-2])) for user, rows in long_enough),
        test=tuple(Example(user, rows[:-1], int(rows[-1])) for user, rows in long_enough),
    )


def popularity(
    histories: Sequence[Rows], n_items: int, *, with_validation: bool = False
) -> NDArray[np.int64]:
    """Counts interactions per item, int64 [n_items], in the training part alone.

    Validation and test items are not counted: Pop, and cold start, would know what is to be predicted.

    Args:
        histories: complete histories by user position.
        n_items: size of the catalogue.
        with_validation: count the validation items too, which Pop of the paper does: they precede the test
            items, so it knows no target of the test part.
    """
    split = leave_one_out(histories)
    training = np.concatenate([np.empty(0, dtype=np.int32), *split.training])
    if with_validation:
        validation = np.array([example.target for example in split.validation], dtype=np.int32)
        training = np.concatenate([training, validation])
    return np.bincount(training, minlength=n_items).astype(np.int64)
