"""Benchmarks of speed: candidate generation and HTTP beside plain alternatives, and commit beside commit."""
