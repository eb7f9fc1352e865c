"""Benchmarks of the service: accuracy, cost and speed, and its LVLM stage under load and faults."""
