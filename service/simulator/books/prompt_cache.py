"""Prompts seen before, as OpenAI's automatic prompt cache would know them."""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict

from service.simulator.contracts import Ask

_KEPT = 300.0  # seconds
_LEAST, _STEP = 1_024, 128  # tokens
_MOST = 10_000  # prompts


class PromptCache:
    """Counts the cached tokens of a prompt that came before, whole; parts of prompts are not told apart."""

    def __init__(self) -> None:
        self._seen: OrderedDict[bytes, float] = OrderedDict()

    def tokens(self, ask: Ask) -> int:
        """Tokens of the input that are read from the cache."""
        known = time.monotonic() - self._seen.get(_key(ask), -_KEPT) < _KEPT
        return ask.input_tokens // _STEP * _STEP if known and ask.input_tokens >= _LEAST else 0

    def remember(self, ask: Ask) -> None:
        """The prompt has been answered, and is known from now on."""
        key = _key(ask)
        self._seen[key] = time.monotonic()
        self._seen.move_to_end(key)
        if len(self._seen) > _MOST:
            self._seen.popitem(last=False)


def _key(ask: Ask) -> bytes:
    digest = hashlib.sha256(f"{ask.model}\0{ask.instructions}\0{ask.texts}".encode())
    for picture in ask.pictures:
        digest.update(picture.data)
    return digest.digest()
