"""Puts the parts together: the only place that picks classes. Benchmarks and tests build with it too."""
