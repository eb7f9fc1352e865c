"""Calls to providers: one gateway with deadlines, retries, hedging, limits and a circuit breaker.

A *call* asks one or several models for one answer. It makes *attempts*, each one request to a provider, and
ends as a *completion*. An attempt needs a *permit* of the concurrency limit and a *reservation* of the quota.
"""
