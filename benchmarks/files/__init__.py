"""Measures what odd, damaged and hostile files become."""
