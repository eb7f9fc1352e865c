"""Holds the networks of every family, losses and batches: tensors and numbers in, tensors out, no files."""
