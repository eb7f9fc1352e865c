"""Benchmarks of the edge: clients that send anything, slowly or for ever, and processes that end."""
