"""Stores of the service, in memory or in Redis: a cache, users' events, leases, and meters of limits."""
