"""Chooses the users of an evaluation: all, or a seeded sample where each user costs money."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.evaluation.candidates import CandidateSource
from models.evaluation.split import Example
from models.evaluation.splitmix import mix

COHORT_SIZE = 400
"""Number of users in the paper's cohort. Cochran's formula z² p (1 - p) / margin² asks for 385, with 95 %
confidence and a margin of 5 %."""

UNIFORM = "uniform"
"""Name of the choice that gives all users the same chance."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """The users whom figures are about.

    Attributes:
        members: their examples, in the order of the users; figures over the whole catalogue are about all.
        left_out: number of users without candidates, whom no figure over candidates is about.
    """

    members: list[Example]
    left_out: int


class CohortChoice(Protocol):
    """Says whose targets are ranked."""

    @property
    def name(self) -> str:
        """Value of ``--cohort`` that chooses it."""
        ...

    def choose(self, test: Sequence[Example], source: CandidateSource) -> Chosen:
        """Chooses among the examples of the test part; ``source`` has the candidates of some of them."""
        ...

    def to_json(self) -> dict[str, Any] | None:
        """Returns what has to be known to choose them again, stored beside metrics; None for all users."""
        ...


@dataclass(frozen=True, slots=True)
class UniformCohort:
    """Chooses all users, or a seeded sample of those with candidates.

    Attributes:
        users: size of the sample; None for all.
        seed: seed of the choice.
    """

    users: int | None = COHORT_SIZE
    seed: int = 2024

    @property
    def name(self) -> str:
        """``uniform``."""
        return UNIFORM

    def choose(self, test: Sequence[Example], source: CandidateSource) -> Chosen:
        """Returns all examples, or the sample, which is drawn as ``cohort`` draws."""
        offered = [example for example in test if source.offers(example)]
        left_out = len(test) - len(offered)
        if self.users is None:
            return Chosen(list(test), left_out)
        drawn = set(cohort([example.user for example in offered], self.users, self.seed).tolist())
        return Chosen([example for example in offered if example.user in drawn], left_out)

    def to_json(self) -> dict[str, Any] | None:
        """Returns size and seed of the sample; None for all users."""
        return None if self.users is None else {"name": UNIFORM, "users": self.users, "seed": self.seed}


EVERYONE = UniformCohort(users=None)
"""The choice that leaves no user out."""


def cohort(users: ArrayLike, n: int = COHORT_SIZE, seed: int = 2024) -> NDArray[np.int64]:
    """Draws a seeded sample of users, for evaluations that cost money per user.

    Args:
        users: user positions to choose from.
        n: size of the sample; where there are fewer users, all of them are taken.
        seed: seed of the choice. With one seed a smaller cohort is part of every larger one.

    Returns:
        int64 [min(n, users)], ascending.
    """
    users = np.unique(np.asarray(users, dtype=np.int64))
    # The n users with the smallest hashes: a smaller n takes a part of them.
    keys = np.array([mix(mix(seed) ^ user) for user in users.tolist()], dtype=np.uint64)
    return np.sort(users[np.argsort(keys, kind="stable")[:n]])


def cohort_in_words(chosen: Mapping[str, Any]) -> str:
    """Describes the JSON of a choice in the words of a table's foot."""
    name, users = chosen.get("name"), f"{chosen.get('users')} users"
    if name == UNIFORM:
        return f"cohort {name}: {users} chosen with seed {chosen.get('seed')}"
    left_out = chosen.get("left_out")
    others = f"; {left_out} of theirs are not here, or have another last item" if left_out else ""
    return f"cohort {name}: {users} whom the paper's authors asked about{others}"
