"""Runs around every request: proxies, paths, observation, hosts and origins, keys, client and body limits."""
