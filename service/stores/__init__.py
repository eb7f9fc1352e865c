"""Stores: a cache, events, meters of limits and leases, in memory or in Redis."""
