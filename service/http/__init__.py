"""Serves recommendations over HTTP: routes, middleware, the JSON of requests and answers, and errors."""
