"""Answers over HTTP: routes, middleware, and what answers and errors look like on the wire."""
