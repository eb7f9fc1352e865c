"""Writes and reads the two parts of a bundle: its catalogue and its backbones."""
