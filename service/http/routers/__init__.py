"""Routes of the HTTP API, one module for each group, and how they read requests."""
