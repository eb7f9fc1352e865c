"""Puts the parts together: the only package that picks classes. Benchmarks and tests build with it too."""
