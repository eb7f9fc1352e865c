"""Trains a network of any family, measures it and keeps it in a run folder."""
