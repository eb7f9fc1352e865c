"""Metrics on their way to Prometheus: read from registries, merged over worker processes, written as text."""
