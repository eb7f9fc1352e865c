"""Holds the networks of every family, their losses and batches: tensors and numbers in, tensors out, no files."""
