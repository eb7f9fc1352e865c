"""Counts requests and tokens per minute against limits, which the vendors report in headers and enforce."""

from __future__ import annotations

import time

from service.simulator.contracts import RateLimitStatus

_WINDOW = 60.0  # seconds
_REQUEST_LIMIT = 10_000.0  # per minute, unless a script sets another
_TOKEN_LIMIT = 30_000_000.0  # per minute, unless a script sets another


class RateLimit:
    """Counts requests and tokens in windows of a minute; the first request after a window begins the next."""

    def __init__(self) -> None:
        self._window_start = 0.0
        self._window_requests = 0
        self._window_tokens = 0
        self.request_limit = _REQUEST_LIMIT
        self.token_limit = _TOKEN_LIMIT

    def limit(self, requests_per_minute: float | None, tokens_per_minute: float | None) -> None:
        """Sets the limits per minute; None for the default."""
        self.request_limit = requests_per_minute or _REQUEST_LIMIT
        self.token_limit = tokens_per_minute or _TOKEN_LIMIT

    def spend(self, tokens: int) -> None:
        """Counts a request and its tokens against the minute."""
        now = time.time()
        if now >= self._window_start + _WINDOW:
            self._window_start, self._window_requests, self._window_tokens = now, 0, 0
        self._window_requests += 1
        self._window_tokens += tokens

    def status(self) -> RateLimitStatus:
        """Reports what is left of the minute."""
        now = time.time()
        return RateLimitStatus(
            request_limit=int(self.request_limit),
            requests_left=max(0, int(self.request_limit) - self._window_requests),
            token_limit=int(self.token_limit),
            tokens_left=max(0, int(self.token_limit) - self._window_tokens),
            now=now,
            resets_at=self._window_start + _WINDOW,
        )

    def exhausted(self, tokens: int) -> float | None:
        """Computes the seconds until a request of so many input tokens is allowed; None if it is so now."""
        now, end = time.time(), self._window_start + _WINDOW
        # The window is over, and the next begins with this request.
        if now >= end:
            return None
        full = self._window_requests >= self.request_limit
        return end - now if full or self._window_tokens + tokens > self.token_limit else None
