"""Calls to providers: one gateway with deadlines, retries, hedging, limits and a circuit breaker."""
