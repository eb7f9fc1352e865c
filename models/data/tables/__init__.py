"""Reads the tables of a shop (orders, products) in the usual formats; they become a ``Dataset``."""
