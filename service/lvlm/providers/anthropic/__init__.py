"""Anthropic, and the servers that speak its messages."""
