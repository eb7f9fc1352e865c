"""Builds the service from the settings: the package that chooses classes. Benchmarks and tests use it too."""
