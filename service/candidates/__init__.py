"""Generates candidates: a user or a history goes in, the best items of the catalogue come out."""
