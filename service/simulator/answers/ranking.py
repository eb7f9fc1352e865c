"""Ranks candidates by what they share with the history: words of titles, of captions and of pictures.

A content-based recommender (Lops, de Gemmis and Semeraro 2011, "Content-based Recommender Systems"): words
weighted by their inverse document frequency inside the prompt, recent items weighted more, cosine similarity.
It uses what the prompt shows and nothing else.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import log, log2, sqrt

from service.simulator.answers.prompt_parser import HistoryItem, ParsedPrompt
from service.simulator.vision.colours import FAMILIES
from service.simulator.vision.picture_description import Description

_RECENCY = 0.85  # weight of an item of the history relative to the next newer one
_CAPTION_WEIGHT = 0.7  # of a word of a caption, relative to one of a title: captions have more words
_PICTURE_WEIGHT = 0.8  # of a word that describes a picture, relative to one of a title
_PRIOR_WEIGHT = 0.6  # of the first rank in a shown order, relative to the best content match
_WORD = re.compile(r"[^\W\d_]{3,}")  # letters of any script; sizes and units are not tastes
_STOP_WORDS = frozenset(
    ("and", "are", "background", "for", "from", "into", "its", "object", "pack", "set", "that", "the", "this",
     "with")
)  # fmt: skip

Weights = dict[str, float]


@dataclass(frozen=True, slots=True)
class Ranking:
    """An order of the candidates, and the words that put the first one there.

    Attributes:
        order: positions of the candidates in the prompt, from 0, best first.
        shared_words: words that the first candidate shares with the history, strongest first.
    """

    order: tuple[int, ...]
    shared_words: tuple[str, ...]


def rank(prompt: ParsedPrompt, descriptions: Sequence[Description], seed: int) -> Ranking:
    """Ranks the candidates of a prompt.

    Args:
        prompt: history and candidates.
        descriptions: descriptions of the pictures, in the order of the pictured items of the history.
        seed: seed of the tie breaker: equal candidates do not keep the order in which they were shown.
    """
    titles = [_words(candidate.title) for candidate in prompt.candidates]
    rarity = _rarity([*titles, *(_words(item.title) for item in prompt.history)])
    profile = _weigh(_profile(prompt.history, descriptions), rarity)
    vectors = [_weigh(dict(Counter(words)), rarity) for words in titles]
    content = _scaled([_cosine(profile, vector) for vector in vectors])
    # The discount of NDCG (Järvelin & Kekäläinen 2002): the first ranks of a shown order count most.
    prior = [_PRIOR_WEIGHT / log2(rank + 2) if prompt.ranked else 0.0 for rank in range(len(content))]
    scores = [match + trust for match, trust in zip(content, prior, strict=True)]
    ties = [_tie_breaker(seed, candidate.title, candidate.name) for candidate in prompt.candidates]
    # Best score first; equal candidates in the order of their tie breakers.
    order = sorted(range(len(scores)), key=lambda position: (-scores[position], ties[position]))
    shared = {word: profile[word] * weight for word, weight in vectors[order[0]].items() if word in profile}
    return Ranking(tuple(order), tuple(sorted(shared, key=lambda word: (-shared[word], word))))


def _profile(history: Sequence[HistoryItem], descriptions: Sequence[Description]) -> Weights:
    """Sums up the weights of the words of titles, captions and pictures of the history."""
    profile: Weights = {}
    unseen = iter(descriptions)
    for age, item in zip(range(len(history) - 1, -1, -1), history, strict=True):
        recency = _RECENCY**age
        description = next(unseen, None) if item.pictured else None
        _add(profile, _words(item.title), recency)
        _add(profile, set(_words(item.caption)), recency * _CAPTION_WEIGHT)
        _add(profile, _words(" ".join(description.words)) if description else (), recency * _PICTURE_WEIGHT)
    unlisted = list(unseen)  # pictures of a prompt that lists no history beside them
    for age, description in enumerate(reversed(unlisted)):
        _add(profile, _words(" ".join(description.words)), _RECENCY**age * _PICTURE_WEIGHT)
    return profile


def _add(profile: Weights, words: Iterable[str], weight: float) -> None:
    for word in words:
        profile[word] = profile.get(word, 0.0) + weight


def _words(text: str) -> list[str]:
    """Lists the words in lower case, plurals folded, colours with their family (navy is a blue)."""
    found = []
    for word in _WORD.findall(text.casefold()):
        if word in _STOP_WORDS:
            continue
        # Fold plurals: mugs, but not glass.
        stem = word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word
        found.append(stem)
        family = FAMILIES.get(stem)
        if family and family != stem:
            found.append(family)
    return found


def _rarity(documents: Sequence[Sequence[str]]) -> Mapping[str, float]:
    """Computes the inverse document frequency of each word; the documents are the titles in the prompt."""
    frequency = Counter(word for document in documents for word in set(document))
    return {word: log(1 + len(documents) / count) for word, count in frequency.items()}


def _weigh(weights: Mapping[str, float], rarity: Mapping[str, float]) -> Weights:
    """Multiplies weights by rarity; words that no title has cannot match one and are left out."""
    return {word: weight * rarity[word] for word, weight in weights.items() if word in rarity}


def _cosine(one: Weights, other: Weights) -> float:
    length = sqrt(sum(x * x for x in one.values())) * sqrt(sum(x * x for x in other.values()))
    return sum(weight * one.get(word, 0.0) for word, weight in other.items()) / length if length else 0.0


def _scaled(values: list[float]) -> list[float]:
    largest = max(values, default=0.0)
    return [value / largest for value in values] if largest > 0 else values


def _tie_breaker(seed: int, *facts: str) -> bytes:
    return hashlib.blake2b("\0".join((str(seed), *facts)).encode(), digest_size=8).digest()
