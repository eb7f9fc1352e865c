"""Holds what a Redis server is asked and answers: its URL, its refusals, and the events that it keeps."""
