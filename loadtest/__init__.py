"""Load test of a running service with Locust, over HTTP alone."""
