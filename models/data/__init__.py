"""Readers: every data set becomes one ``Dataset``."""
