"""ASGI middleware around every request: observation (id, metrics, log), API key, limit of the body."""
