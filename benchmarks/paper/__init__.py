"""Benchmarks for the paper's questions: accuracy, seconds per user and cost of a running service."""
