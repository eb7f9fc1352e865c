"""Bounds what one connection may send, hold and leave open, and how many connections there are."""
