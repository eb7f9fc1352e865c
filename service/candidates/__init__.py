"""Candidate models of all families: they rank the catalogue's items for a user or a history."""
