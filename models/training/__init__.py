"""Trains a network of any family, measures it and stores it in a run folder."""
