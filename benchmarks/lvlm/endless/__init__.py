"""Providers whose answers never end."""
