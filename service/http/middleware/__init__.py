"""Around every request: identity and metrics, the API key, the size of the body. Pure ASGI."""
