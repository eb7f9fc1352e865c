"""Benchmarks of the LVLM stage: under load, with slow and failing providers, and beside bare SDK calls."""
