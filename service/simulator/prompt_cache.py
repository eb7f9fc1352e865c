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

    def meet(self, ask: Ask) -> int:
        """Tokens of the input that are read from the cache; from now on the prompt is known."""
        digest = hashlib.sha256(f"{ask.model}\0{ask.instructions}\0{ask.texts}".encode())
        for picture in ask.pictures:
            digest.update(picture.data)
        key, now = digest.digest(), time.monotonic()
        known = now - self._seen.get(key, -_KEPT) < _KEPT
        self._seen[key] = now
        self._seen.move_to_end(key)
        if len(self._seen) > _MOST:
            self._seen.popitem(last=False)
        return ask.input_tokens // _STEP * _STEP if known and ask.input_tokens >= _LEAST else 0
