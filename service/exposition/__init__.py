"""Carries metrics to Prometheus: from registries, merged over worker processes, to text."""
