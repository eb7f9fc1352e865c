"""Remembers prompts, to bill those as cached that OpenAI would."""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict

from service.simulator.contracts import ChatRequest

# OpenAI caches prompts from 1,024 tokens on, in steps of 128, and forgets them after 5 to 10 minutes (its
# guide "Prompt caching").
_KEPT = 300.0  # seconds
_MIN_TOKENS, _STEP = 1_024, 128
_MAX_PROMPTS = 10_000  # beyond, the oldest is dropped


class PromptCache:
    """Counts the cached tokens of prompts that came before.

    Only whole prompts are compared, where OpenAI also finds a common beginning.
    """

    def __init__(self) -> None:
        self._seen: OrderedDict[bytes, float] = OrderedDict()

    def tokens(self, request: ChatRequest) -> int:
        """Counts the input tokens that are read from the cache."""
        known = time.monotonic() - self._seen.get(_key(request), -_KEPT) < _KEPT
        return request.input_tokens // _STEP * _STEP if known and request.input_tokens >= _MIN_TOKENS else 0

    def remember(self, request: ChatRequest) -> None:
        """Adds a prompt that was answered."""
        key = _key(request)
        self._seen[key] = time.monotonic()
        self._seen.move_to_end(key)
        if len(self._seen) > _MAX_PROMPTS:
            self._seen.popitem(last=False)


def _key(request: ChatRequest) -> bytes:
    # The NUL keeps a model's name and the instructions apart.
    digest = hashlib.sha256(f"{request.model}\0{request.instructions}\0{request.texts}".encode())
    for picture in request.pictures:
        digest.update(picture.data)
    return digest.digest()
