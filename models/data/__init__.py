"""Reads data sets of several layouts; each becomes a ``Dataset``."""
