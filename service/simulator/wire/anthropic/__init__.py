"""Anthropic's wire format: ``POST /v1/messages``, as its API reference describes it."""
