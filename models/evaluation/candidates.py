"""Chooses the items that a target is ranked among."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.data.dataset import Rows
from models.errors import EvaluationError
from models.evaluation.split import Example
from models.evaluation.splitmix import draws

DRAWN = "drawn"
"""Name of the source that every data set has, and that no protocol has to name."""

PADDING = -1
"""Row that fills the places of candidates that a user lacks; no item has it."""

_IN_WORDS = {"published": "published with the data set", "authors": "those of the paper's authors"}
"""Descriptions of the sources that draw nothing, by the name in their JSON."""


class CandidateSource(Protocol):
    """Says which items a target is ranked among."""

    @property
    def name(self) -> str:
        """Value of ``--candidates`` that chooses it."""
        ...

    @property
    def missing(self) -> str:
        """What a user lacks who is left out, for tables: ``29 unseen items``."""
        ...

    def offers(self, example: Example) -> bool:
        """Returns whether there are candidates for the example; its user is left out otherwise."""
        ...

    def candidates(self, example: Example) -> Rows:
        """Returns int32 [1 + negatives], the target first, all different; fewer where some are not known.

        Raises:
            EvaluationError: there are none for the example.
        """
        ...

    def to_json(self) -> dict[str, Any]:
        """Returns what has to be known to choose them again; stored beside every metric."""
        ...


@dataclass(frozen=True, slots=True)
class EvaluationProtocol:
    """Parameters of the draw of candidates; stored beside every metric.

    Attributes:
        seed: seed of the negatives.
        negatives: number of unseen items that a target is ranked among.
    """

    seed: int = 2024
    negatives: int = 29

    def to_json(self) -> dict[str, Any]:
        """Returns the parameters with the rules of the draw, to be stored beside metrics."""
        return {
            **asdict(self),
            "split": "leave-one-out",
            "sampler": "uniform over unseen items, splitmix64",
            "ties": "against the target",
        }


@dataclass(frozen=True)
class DrawnCandidates:
    """Draws negatives from the items that a user never takes.

    Attributes:
        histories: complete histories by user position: items that a user takes later are no negatives either.
        n_items: size of the catalogue.
        protocol: seed and number of negatives.
    """

    histories: Sequence[Rows]
    n_items: int
    protocol: EvaluationProtocol = EvaluationProtocol()

    @property
    def name(self) -> str:
        """``drawn``."""
        return DRAWN

    @property
    def missing(self) -> str:
        """What a user lacks who has taken nearly all items."""
        return f"{self.protocol.negatives} unseen items"

    def offers(self, example: Example) -> bool:
        """Returns whether the catalogue has enough items that the user never takes."""
        taken = {example.target, *self.histories[example.user].tolist()}
        return self.n_items - len(taken) >= self.protocol.negatives

    def candidates(self, example: Example) -> Rows:
        """Draws as ``sample_candidates``."""
        seen = self.histories[example.user]
        return sample_candidates(seen, example.target, self.n_items, self.protocol, example.user)

    def to_json(self) -> dict[str, Any]:
        """Returns the protocol of the draw."""
        return self.protocol.to_json()


def sample_candidates(
    seen: ArrayLike, target: int, n_items: int, protocol: EvaluationProtocol, user: int
) -> Rows:
    """Draws the negatives that the target is ranked among.

    Args:
        seen: item rows of the user, later ones too; none of them is drawn.
        target: item row of the answer.
        n_items: size of the catalogue.
        protocol: seed and number of negatives.
        user: position of the user in the data set.

    Returns:
        int32 [1 + negatives], the target first, all different.

    Raises:
        EvaluationError: the user has seen so much that too few items are left. Ranking among fewer would be
            an easier task under the same name.
    """
    taken = {target, *np.asarray(seen).tolist()}
    if n_items - len(taken) < protocol.negatives:
        raise EvaluationError(
            f"user {user} has seen all but {n_items - len(taken)} of {n_items} items and the protocol wants "
            f"{protocol.negatives} unseen ones: evaluate with fewer negatives"
        )
    candidates = [target]
    for row in draws(n_items, protocol.seed, user, target):
        if len(candidates) > protocol.negatives:  # the target and all negatives
            break
        if row not in taken:
            taken.add(row)
            candidates.append(row)
    return np.array(candidates, dtype=np.int32)


def candidate_matrix(examples: Sequence[Example], source: CandidateSource) -> NDArray[np.int32]:
    """Returns the candidates of many examples, int32 [examples, 1 + negatives], targets in column 0.

    Rows of users with fewer candidates end with ``PADDING``.

    Raises:
        EvaluationError: the source has none for one of the examples: ask ``offers`` first.
    """
    matrix = np.full((len(examples), 1 + int(source.to_json()["negatives"])), PADDING, dtype=np.int32)
    for row, example in zip(matrix, examples, strict=True):
        candidates = source.candidates(example)
        row[: len(candidates)] = candidates
    return matrix


def with_fewer(candidates: NDArray[np.int32]) -> int:
    """Counts the users with fewer candidates than the others, of a matrix int32 [users, n]."""
    return int(np.count_nonzero((candidates == PADDING).any(axis=1)))


def fewer_in_words(users: int) -> str:
    """Describes the number of users with fewer candidates than the others, in the words of a table's foot."""
    who = "1 user has" if users == 1 else f"{users:,} users have"
    return f"{who} fewer candidates, and the target is ranked among those: the others are not known"


def candidates_in_words(protocol: Mapping[str, Any]) -> str:
    """Describes the JSON of a source in the words of a table's foot."""
    name = protocol.get("candidates", DRAWN)
    how = f"{DRAWN} with seed {protocol.get('seed')}" if name == DRAWN else _IN_WORDS.get(str(name), name)
    return f"1 + {protocol.get('negatives')} candidates, {how}"
