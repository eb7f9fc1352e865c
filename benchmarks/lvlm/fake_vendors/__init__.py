"""Benchmarks with the fake vendors: servers that misbehave in known ways, programs outside the repository."""
